// openai-node over ResponsesWS: two questions of one conversation, with a tool.
// Argument: base address.
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';

const [baseURL] = process.argv.slice(2);
const socket = new ResponsesWS(new OpenAI({ baseURL, apiKey: 'any' }));
const tools = [
  {
    type: 'function',
    name: 'weather',
    description: 'The weather in a city.',
    strict: true,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', enum: ['Lisbon', 'Oslo', 'Quito'] } },
      required: ['city'],
      additionalProperties: false,
    },
  },
];

function create(input, parent) {
  return new Promise((resolve, reject) => {
    const listen = (event) => {
      if (event.type === 'response.completed') {
        socket.off('event', listen);
        resolve(event.response);
      } else if (['error', 'response.failed', 'response.incomplete'].includes(event.type)) {
        reject(new Error(JSON.stringify(event)));
      }
    };
    socket.on('event', listen);
    socket.send({
      type: 'response.create',
      model: 'sim',
      instructions: 'You know the weather.',
      input,
      tools,
      store: false,
      ...(parent ? { previous_response_id: parent } : {}),
    });
  });
}

socket.on('error', (error) => {
  throw error;
});

const answers = [];
const calls = [];
let response;
for (const question of ['Where is it warm?', 'And where is it cold?']) {
  response = await create([{ role: 'user', content: question }], response?.id);
  for (;;) {
    const asked = response.output.filter((item) => item.type === 'function_call');
    if (asked.length === 0) break;
    const outputs = asked.map((call) => {
      calls.push(JSON.parse(call.arguments));
      return { type: 'function_call_output', call_id: call.call_id, output: '17 degrees' };
    });
    response = await create(outputs, response.id);
  }
  answers.push(response.output.map((item) => item.content[0].text).join(''));
}
socket.close();
console.log(JSON.stringify({ answers, calls }));
