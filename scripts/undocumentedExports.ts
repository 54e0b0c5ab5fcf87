import { relative } from "node:path";
import ts from "typescript";

/**
 * Finds what the package exports without a TSDoc summary.
 *
 * @param root the checkout
 * @param entryPoints files relative to it; an export from elsewhere counts where it is declared. Generated files have none and do not count.
 * @returns `file: name` of each, sorted
 */
export function undocumentedExports(root: string, entryPoints: readonly string[]): string[] {
  const { config } = ts.readConfigFile(`${root}/tsconfig.json`, (path) => ts.sys.readFile(path)) as { config: unknown };
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const files = entryPoints.map((path) => `${root}/${path}`);
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const found = files.flatMap((file) => {
    const source = program.getSourceFile(file);
    if (source === undefined) throw new Error(`${file} is no source file; mend the entry points in typedoc.json`);
    return checker.getExportsOfModule(checker.getSymbolAtLocation(source)!).flatMap((exported) => {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      const place = relative(root, symbol.declarations?.[0]?.getSourceFile().fileName ?? "");
      const { valueDeclaration: value } = symbol;
      // `float32 = "float32"` says what it is.
      if (value && ts.isVariableDeclaration(value) && value.initializer?.getText() === `"${symbol.name}"`) return [];
      if (symbol.flags & ts.SymbolFlags.ValueModule || place.includes(".generated.")) return [];
      const summary = ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim();
      return summary === "" ? [`${place}: ${symbol.name}`] : [];
    });
  });
  return [...new Set(found)].sort();
}
