// What Node's OpenAI SDK makes of the gateway's errors, of a stream that fails, and of leaving one.
//
// `node node_sdk.mjs MAJOR URL TOKENS`, tokens as JSON: prints a line of JSON, then waits for its input
// to end, so that a connection which closes before is one that the SDK has closed.

const [major, url, tokens] = process.argv.slice(2);
const { AzureOpenAI, OpenAI } = await import(`openai-${major}`);
const { good, bad, powerless } = JSON.parse(tokens);

const maxRetries = 0;
const v1 = (token) => new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: token, maxRetries });
const azure = (token) =>
  new AzureOpenAI({
    endpoint: url,
    azureADTokenProvider: async () => token,
    apiVersion: "2024-10-21",
    maxRetries,
  });
const chat = { model: "gpt", messages: [{ role: "user", content: "Say hi." }] };
const ask = (client, more = {}) => client.chat.completions.create({ ...chat, ...more });

const header = (headers, name) =>
  typeof headers?.get === "function" ? headers.get(name) : headers?.[name];

function seen(error) {
  const { constructor, status, code, message, headers } = error;
  const [kind, wait] = ["x-meter-error", "retry-after"].map((name) => header(headers, name) ?? null);
  return { type: constructor.name, status: status ?? null, code: code ?? null, kind, wait, message };
}

async function errorOf(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return seen(error);
  }
}

async function read(stream) {
  let chunks = 0;
  for await (const _ of stream) chunks += 1;
  return chunks;
}

const errors = {};
for (const [name, made] of Object.entries({ v1, azure })) {
  errors[name] = [
    await errorOf(() => ask(made(bad))),
    await errorOf(() => ask(made(powerless))),
    await errorOf(() => ask(made(good), { model: "nosuch" })),
    await errorOf(() => ask(made(good), { model: "busy" })),
  ];
}
const failed = await errorOf(async () => read(await ask(v1(good), { stream: true })));

const stream = await ask(v1(good), { stream: true });
let taken = 0;
for await (const _ of stream) {
  taken += 1;
  stream.controller.abort();
}

console.log(JSON.stringify({ errors, failed, taken }));
process.stdin.resume();
