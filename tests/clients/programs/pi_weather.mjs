// An extension of pi: one tool, which changes nothing and prints how it was called.
export default function (pi) {
  pi.registerTool({
    name: 'weather',
    label: 'Weather',
    description: 'The weather in a city.',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', enum: ['Lisbon', 'Oslo', 'Quito'] } },
      required: ['city'],
      additionalProperties: false,
    },
    async execute(id, args) {
      return { content: [{ type: 'text', text: `17 degrees in ${args.city}` }], details: args };
    },
  });
}
