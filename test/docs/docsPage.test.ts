import { expect, test } from "@jest/globals";
import { expectation } from "./docsPage.js";

test("an ellipsis stands for text, and nothing else does", () => {
  expect("a bc d\nx\ny\nend\n").toMatch(expectation("a … d\n…\nend\n"));
  expect("a (b)\nend\n").not.toMatch(expectation("a b\n…\nend\n"));
  expect("a\nend\nmore\n").not.toMatch(expectation("a\nend\n"));
});
