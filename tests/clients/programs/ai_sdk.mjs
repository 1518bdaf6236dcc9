// The Vercel AI SDK: two questions of one conversation, with a tool.
// Arguments: base address; `websocket` or `http`; `true` or `false`, whether to store; the model.
import { createOpenAI } from '@ai-sdk/openai';
import { createWebSocketFetch } from '@vercel/ai-sdk-openai-websocket-fetch';
import { isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';

const [base, transport, store, model = 'sim'] = process.argv.slice(2);
const webSocketFetch = createWebSocketFetch({ url: `${base.replace('http', 'ws')}/responses` });
const openai = createOpenAI({
  baseURL: base,
  apiKey: 'any',
  ...(transport === 'websocket' ? { fetch: webSocketFetch } : {}),
});

const calls = [];
const weather = tool({
  description: 'The weather in a city.',
  strict: true,
  inputSchema: z.object({ city: z.enum(['Lisbon', 'Oslo', 'Quito']) }),
  execute: async (args) => {
    calls.push(args);
    return `17 degrees in ${args.city}`;
  },
});

let failure;
const answers = [];
const messages = [];
for (const question of ['Where is it warm?', 'And where is it cold?']) {
  messages.push({ role: 'user', content: question });
  const result = streamText({
    model: openai(model),
    instructions: 'You know the weather.',
    messages,
    tools: { weather },
    providerOptions: { openai: { store: store === 'true' } },
    stopWhen: isStepCount(4),
    onError: ({ error }) => {
      failure ??= error;
    },
  });
  let streamed = '';
  for await (const piece of result.textStream) streamed += piece;
  if (failure) break;
  answers.push(streamed);
  messages.push(...(await result.response).messages);
}
webSocketFetch.close();
if (failure) {
  console.error(failure.message);
  process.exit(1);
}
console.log(JSON.stringify({ answers, calls }));
