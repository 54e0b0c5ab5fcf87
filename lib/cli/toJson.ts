/** A result as JSON, with one entry of a list a line, so that the output can be searched. */
export function toJson(value: object): string {
  const fields = Object.entries(value).map(([name, each]: [string, unknown]) => {
    const isTable = Array.isArray(each) && each.length > 0 && typeof each[0] !== "number";
    const text = isTable ? `[\n${each.map((row) => `    ${JSON.stringify(row)}`).join(",\n")}\n  ]` : JSON.stringify(each);
    return `  ${JSON.stringify(name)}: ${text}`;
  });
  // Keys and names come from files: a terminal takes these characters for commands or turns the line round, and JSON leaves them in.
  return `{\n${fields.join(",\n")}\n}`.replaceAll(/[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, (each) =>
    `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
