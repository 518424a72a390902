// An application with only Node's OpenAI SDK: makes one call of every kind and prints the results.
//
// `node node_client.mjs MAJOR GATEWAY_URL TOKEN`: JSON with the SDK's version and a list of calls. The
// package of each major has an alias of its own (package.json), so that all can be installed together.

import { createRequire } from "node:module";

const [major, url, token] = process.argv.slice(2);
const { AzureOpenAI, OpenAI } = await import(`openai-${major}`);
const { VERSION } = createRequire(import.meta.url)(`openai-${major}/version`);

const messages = [{ role: "user", content: "How many tokens does this question cost?" }];
const apiVersion = "2025-03-01-preview";
const provider = async () => token;
const clients = {
  classic: new AzureOpenAI({ endpoint: url, azureADTokenProvider: provider, apiVersion }),
  // A provider in place of a key is new in 6.
  v1: new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: Number(major) >= 6 ? provider : token }),
};
const chat = { model: "gpt-4o", messages };
const completion = { model: "gpt-4o", prompt: "Once upon a time" };
const response = { model: "gpt-4o-mini", input: "Say hello" };
const input = ["one two", "three"];

const whole = {
  chat: (client) => client.chat.completions.create(chat),
  completion: (client) => client.completions.create(completion),
  embedding: (client) => client.embeddings.create({ model: "text-embedding-3-small", input }),
  response: (client) => client.responses.create(response),
};
const usage = { stream_options: { include_usage: true } };
const streamed = {
  "chat-stream": (client) => client.chat.completions.create({ ...chat, stream: true }),
  "chat-stream-usage": (client) =>
    client.chat.completions.create({ ...chat, stream: true, ...usage }),
  "completion-stream": (client) => client.completions.create({ ...completion, stream: true }),
  "response-stream": (client) => client.responses.create({ ...response, stream: true }),
};

const calls = [];
for (const [style, client] of Object.entries(clients)) {
  for (const [kind, call] of Object.entries(whole)) {
    const answer = await call(client);
    calls.push({ style, kind, total_tokens: answer.usage.total_tokens });
  }
  for (const [kind, call] of Object.entries(streamed)) {
    let chunks = 0;
    let total_tokens = null;
    for await (const chunk of await call(client)) {
      chunks += 1;
      const found = chunk.response === undefined ? chunk.usage : chunk.response.usage;
      total_tokens = found?.total_tokens ?? total_tokens;
    }
    calls.push({ style, kind, total_tokens, chunks });
  }
}
process.stdout.write(JSON.stringify({ version: VERSION, calls }));
