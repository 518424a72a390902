// Plays scenarios with Node's SDK against the endpoint: `node node_sdk.mjs CONNECTION_STRING WRONG_KEY_ONE`.
//
// They run concurrently, each with its own hub, and one line of JSON says what each observed or which error
// ended it. test_node.py has the claims about that.

import {
  earliestEventPosition,
  EventHubBufferedProducerClient,
  EventHubConsumerClient,
  EventHubProducerClient,
  latestEventPosition,
} from "@azure/event-hubs";

const [connectionString, wrongKeyConnectionString] = process.argv.slice(2);
const GROUP = "$Default";
const once = { retryOptions: { maxRetries: 0, timeoutInMs: 10_000 } };

const scenarios = {
  properties: async (hub) =>
    withClient(producer(hub), async (client) => {
      const before = await client.getPartitionProperties("1");
      await client.sendBatch([{ body: "a" }, { body: "b" }], { partitionId: "1" });
      const after = await client.getPartitionProperties("1");
      const { name, partitionIds } = await client.getEventHubProperties();
      return { name, partitionIds, before, after };
    }),

  requestsAtOnce: async (hub) =>
    withClient(producer(hub), async (client) => {
      const ids = ["0", "1", "2", "3"];
      const answers = await Promise.all(ids.map((id) => client.getPartitionProperties(id)));
      return answers.map((answer) => answer.partitionId);
    }),

  positions: async (hub) => {
    await withClient(producer(hub), async (client) => {
      for (const body of ["a", "b", "c", "d"]) {
        await client.sendBatch([{ body }], { partitionId: "0" });
      }
    });
    const [, second] = await read(hub, 4, earliestEventPosition);
    const { offset, sequenceNumber, enqueuedTimeUtc } = second;
    const starts = {
      offset: [2, { offset }],
      offsetInclusive: [3, { offset, isInclusive: true }],
      sequenceNumber: [2, { sequenceNumber }],
      sequenceNumberInclusive: [3, { sequenceNumber, isInclusive: true }],
      enqueuedOn: [2, { enqueuedOn: enqueuedTimeUtc }],
    };
    // A group has five readers at most per partition.
    const found = await Promise.all(
      Object.entries(starts).map(async ([name, [count, start]]) => [name, bodies(await read(hub, count, start))]),
    );
    return Object.fromEntries(found);
  },

  latest: async (hub) =>
    withClient(producer(hub), async (client) => {
      await client.sendBatch([{ body: "old" }], { partitionId: "0" });
      const reading = read(hub, 1, latestEventPosition);
      const sending = setInterval(
        () => client.sendBatch([{ body: "new" }], { partitionId: "0" }).catch(() => {}),
        100,
      );
      return bodies(await reading.finally(() => clearInterval(sending)));
    }),

  batch: async (hub) => {
    const sent = Array.from({ length: 500 }, (_, number) => ({ body: { number }, properties: { number } }));
    await withClient(producer(hub), async (client) => {
      const batch = await client.createBatch({ partitionId: "2" });
      const taken = sent.filter((event) => batch.tryAdd(event));
      if (taken.length !== sent.length) throw new Error(`the batch took ${taken.length} events`);
      await client.sendBatch(batch);
    });
    const received = await read(hub, sent.length, earliestEventPosition, "2");
    return received.map(({ body, properties }) => [body.number, properties.number]);
  },

  key: async (hub) => {
    await withClient(producer(hub), (client) => client.sendBatch([{ body: "keyed" }], { partitionKey: "alice" }));
    await withClient(
      new EventHubBufferedProducerClient(connectionString, hub, {
        ...once,
        onSendEventsErrorHandler: async () => {},
      }),
      (client) => client.enqueueEvent({ body: "buffered" }, { partitionKey: "alice" }),
    );
    return withClient(consumer(hub), async (client) => {
      const ids = await client.getPartitionIds();
      const ends = await Promise.all(ids.map((id) => client.getPartitionProperties(id)));
      return ends.map((end) => end.lastEnqueuedSequenceNumber + 1);
    });
  },

  resume: async (hub) => {
    const store = new MemoryCheckpointStore();
    const send = (sent) =>
      withClient(producer(hub), (client) => client.sendBatch(sent.map((body) => ({ body })), { partitionId: "1" }));
    await send(["first", "second"]);
    const before = await readAsProcessor(hub, store, 2);
    await send(["third"]);
    const after = await readAsProcessor(hub, store, 1);
    return { before, after, checkpoint: store.checkpoints.get("1").sequenceNumber };
  },

  unknownHub: async () => ({
    send: await errorOf(withClient(producer("no-such-hub"), (client) => client.sendBatch([{ body: "x" }]))),
    properties: await errorOf(withClient(producer("no-such-hub"), (client) => client.getEventHubProperties())),
    receive: await errorOf(read("no-such-hub", 1, earliestEventPosition)),
  }),

  unknownGroup: async (hub) => errorOf(read(hub, 1, earliestEventPosition, "0", "nobody")),

  unknownPartition: async (hub) => ({
    send: await errorOf(withClient(producer(hub), (client) => client.sendBatch([{ body: "x" }], { partitionId: "9" }))),
    properties: await errorOf(withClient(producer(hub), (client) => client.getPartitionProperties("9"))),
    receive: await errorOf(read(hub, 1, earliestEventPosition, "9")),
  }),

  pastTheEnd: async (hub) => errorOf(read(hub, 1, { sequenceNumber: 1000 })),

  stolen: async (hub) => {
    await withClient(producer(hub), (client) => client.sendBatch([{ body: "x" }], { partitionId: "0" }));
    let isReading;
    const reading = new Promise((resolve) => (isReading = resolve));
    const weak = withClient(consumer(hub), (client) =>
      receive(2, ({ processEvents, processError }) =>
        client.subscribe(
          "0",
          { processError, processEvents: (events) => processEvents(events).then(isReading) },
          { startPosition: earliestEventPosition, ownerLevel: 1, maxWaitTimeInSeconds: 1 },
        ),
      ),
    );
    const ending = errorOf(weak);
    await reading;
    const strong = await read(hub, 1, earliestEventPosition, "0", GROUP, { ownerLevel: 2 });
    return { strong: bodies(strong), weak: await ending };
  },

  wrongKey: async (hub) => {
    const client = () => new EventHubProducerClient(wrongKeyConnectionString, hub, once);
    return {
      send: await errorOf(withClient(client(), (each) => each.sendBatch([{ body: "x" }]))),
      properties: await errorOf(withClient(client(), (each) => each.getEventHubProperties())),
    };
  },
};

class MemoryCheckpointStore {
  checkpoints = new Map();
  #ownerships = new Map();
  #etag = 0;

  async listOwnership() {
    return [...this.#ownerships.values()];
  }

  async claimOwnership(wanted) {
    return wanted.map((ownership) => {
      const claimed = { ...ownership, etag: String(++this.#etag), lastModifiedTimeInMs: Date.now() };
      this.#ownerships.set(ownership.partitionId, claimed);
      return claimed;
    });
  }

  async updateCheckpoint(checkpoint) {
    this.checkpoints.set(checkpoint.partitionId, checkpoint);
  }

  async listCheckpoints() {
    return [...this.checkpoints.values()];
  }
}

function producer(hub) {
  return new EventHubProducerClient(connectionString, hub, once);
}

function consumer(hub, group = GROUP, store = undefined) {
  const options = { ...once, loadBalancingOptions: { strategy: "greedy", updateIntervalInMs: 200 } };
  return store
    ? new EventHubConsumerClient(group, connectionString, hub, store, options)
    : new EventHubConsumerClient(group, connectionString, hub, options);
}

async function withClient(client, use) {
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

/** Receive `count` events of one partition. */
function read(hub, count, startPosition, partitionId = "0", group = GROUP, settings = {}) {
  return withClient(consumer(hub, group), (client) =>
    receive(count, (handlers) =>
      client.subscribe(partitionId, handlers, {
        startPosition,
        maxWaitTimeInSeconds: 1,
        maxBatchSize: 100,
        ...settings,
      }),
    ),
  );
}

/** Receive as an event processor does: from the checkpoints of all partitions, which it moves on. */
function readAsProcessor(hub, store, count) {
  return withClient(consumer(hub, GROUP, store), async (client) =>
    bodies(
      await receive(count, ({ processEvents, processError }) =>
        client.subscribe(
          {
            processError,
            processEvents: async (events, context) => {
              if (events.length > 0) await context.updateCheckpoint(events.at(-1));
              await processEvents(events);
            },
          },
          { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 },
        ),
      ),
    ),
  );
}

async function receive(count, subscribe) {
  const received = [];
  let subscription;
  try {
    await new Promise((resolve, reject) => {
      subscription = subscribe({
        processEvents: async (events) => {
          received.push(...events);
          if (received.length >= count) resolve();
        },
        processError: async (error) => reject(error),
      });
    });
  } finally {
    await subscription.close();
  }
  return received;
}

function bodies(events) {
  return events.map((event) => event.body);
}

async function errorOf(promise) {
  return promise.then(
    (value) => ({ value }),
    ({ name, code, message, retryable }) => ({ name, code, message, retryable }),
  );
}

const entries = Object.entries(scenarios).map(async ([name, play], number) => {
  const outcome = await play(`hub-${number}`).then(
    (observed) => ({ observed }),
    (error) => ({ error: String(error?.stack ?? error) }),
  );
  return [name, outcome];
});
console.log(JSON.stringify(Object.fromEntries(await Promise.all(entries))));
process.exit(0);
