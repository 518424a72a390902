// LangChain.js: a whole answer, a streamed one, and one of the Responses API.
//
// `node langchain.mjs GATEWAY_URL TOKEN_COMMAND DEPLOYMENT`: prints the answers, or the error.

import { execFileSync } from "node:child_process";
import { AzureChatOpenAI } from "@langchain/openai";

const [url, command, deployment] = process.argv.slice(2);
const settings = {
  azureOpenAIEndpoint: url,
  azureOpenAIApiDeploymentName: deployment,
  azureOpenAIApiVersion: "2025-03-01-preview",
  azureADTokenProvider: async () => execFileSync(command).toString().trim(),
};

try {
  const chat = new AzureChatOpenAI(settings);
  console.log((await chat.invoke("Say hi.")).text);
  let streamed = "";
  for await (const chunk of await chat.stream("Say hi.")) streamed += chunk.text;
  console.log(streamed);
  const responses = new AzureChatOpenAI({ ...settings, useResponsesApi: true });
  console.log((await responses.invoke("Say hi.")).text);
} catch (error) {
  console.log(`${error.constructor.name}: ${error.message}`);
  process.exitCode = 1;
}
