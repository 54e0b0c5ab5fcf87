import tseslint from "typescript-eslint";

const GENERATED = ["**/*.generated.ts"];

export default tseslint.config(
  { ignores: ["dist/", "build/", "node_modules/", "test/fixtures/", "runs/", "demo-run/"] },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.recommended],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // A promise that nobody waits for loses its error, and with it the exit code.
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_", destructuredArrayIgnorePattern: "^_" }],
      // `== null` asks for null and undefined at once.
      eqeqeq: ["error", "smart"],
      // An interface that only extends is how methods made elsewhere are added to a class.
      "@typescript-eslint/no-empty-object-type": ["error", { allowInterfaces: "with-single-extends" }],
      "no-console": "off",
      "no-restricted-properties": ["error", { object: "process", property: "env", message: "Only lib/config.ts reads the environment." }],
      "max-lines": ["error", { max: 400 }],
      // A scope that makes itself the current one has to.
      "@typescript-eslint/no-this-alias": "off",
    },
  },
  // The environment of a child process or of a test is not configuration.
  { files: ["lib/config.ts", "test/**/*.ts"], rules: { "no-restricted-properties": "off" } },
  { files: GENERATED, linterOptions: { reportUnusedDisableDirectives: "off" }, rules: { "max-lines": "off", "@typescript-eslint/no-explicit-any": "off" } },
  { files: ["**/*.mjs"], extends: [tseslint.configs.recommended], rules: { eqeqeq: ["error", "smart"] } },
);
