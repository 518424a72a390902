// The AI SDK: a whole answer of the Azure provider (Responses), a streamed chat of it, and one of the
// provider for compatible addresses.
//
// `node ai_sdk.mjs GATEWAY_URL TOKEN_COMMAND DEPLOYMENT`: prints the answers, or the error.

import { execFileSync } from "node:child_process";
import { createAzure } from "@ai-sdk/azure";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const [url, command, deployment] = process.argv.slice(2);
const token = () => execFileSync(command).toString().trim();
const prompt = "Say hi.";

async function streamed(model) {
  let text = "";
  for await (const part of streamText({ model, prompt, onError: () => {} }).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") text += part.text;
  }
  return text;
}

try {
  const azure = createAzure({ baseURL: `${url}/openai`, tokenProvider: async () => token() });
  console.log((await generateText({ model: azure(deployment), prompt })).text);
  console.log(await streamed(azure.chat(deployment)));
  const compatible = createOpenAICompatible({
    name: "gateway",
    baseURL: `${url}/openai/v1`,
    apiKey: token(),
    includeUsage: true,
  });
  console.log(await streamed(compatible(deployment)));
} catch (error) {
  console.log(`${error.constructor.name}: ${error.message}`);
  process.exitCode = 1;
}
