/** A table's place on a page: what is between two comments belongs to the generator. */
const place = /^<!-- table (\w+) -->\n[\s\S]*?^<!-- end of table -->$/gm;

/** The page with its tables made anew. @throws Error for a place whose table nobody makes, and a table that has no place */
export function withTables(page: string, tables: Readonly<Record<string, string>>): string {
  const left = new Set(Object.keys(tables));
  const written = page.replaceAll(place, (_, name: string) => {
    const table = tables[name];
    if (table === undefined) throw new Error(`the page has a place for a table "${name}", which is not made`);
    left.delete(name);
    return `<!-- table ${name} -->\n${table}\n<!-- end of table -->`;
  });
  if (left.size > 0) throw new Error(`the page has no place for the tables ${[...left].join(", ")}`);
  return written;
}
