// The Agents SDK for JavaScript over WebSocket: two questions of one conversation, with a tool.
// Argument: base address.
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool, withResponsesWebSocketSession } from '@openai/agents';
import WebSocket from 'ws';
import { z } from 'zod';

// That of Node takes no headers.
globalThis.WebSocket = WebSocket;
setTracingDisabled(true);
const [baseURL] = process.argv.slice(2);

const calls = [];
const weather = tool({
  name: 'weather',
  description: 'The weather in a city.',
  parameters: z.object({ city: z.enum(['Lisbon', 'Oslo', 'Quito']) }),
  execute: async (args) => {
    calls.push(args);
    return `17 degrees in ${args.city}`;
  },
});
const agent = new Agent({
  name: 'Forecaster',
  instructions: 'You know the weather.',
  model: 'sim',
  tools: [weather],
});

const answers = [];
await withResponsesWebSocketSession(
  async (session) => {
    let previousResponseId;
    for (const question of ['Where is it warm?', 'And where is it cold?']) {
      const result = await session.run(agent, question, { previousResponseId });
      answers.push(result.finalOutput);
      previousResponseId = result.lastResponseId;
    }
  },
  { providerOptions: { baseURL, apiKey: 'any' } },
);
console.log(JSON.stringify({ answers, calls }));
