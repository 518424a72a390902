// Parses and binds KQL queries with Microsoft's own parser, and says what they name.
//
// Standard input: {"tables": {TABLE: {COLUMN: TYPE}}, "queries": {NAME: TEXT}}. Standard output, by name:
// problems (errors and warnings), tables, columns of the result, comparisons of a column with texts,
// keys of `parse-kv`, and the other texts, which are patterns.
"use strict";

const fs = require("node:fs");
require("@kusto/language-service-next/bridge.min.js"); // both define globals
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");
const { GlobalState, KustoCode, Symbols, Syntax } = globalThis.Kusto.Language;

const listed = (list) => Array.from({ length: list.Count }, (_, index) => list.getItem(index));
const is = (node, kind) => node instanceof Syntax[kind];
const text = (node) => node.ToString(Syntax.IncludeTrivia.Interior);

function globals(tables) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const schema = Object.entries(columns).map(([column, type]) => `${column}: ${type}`);
    return new Symbols.TableSymbol.$ctor7(name, `(${schema.join(", ")})`, "");
  });
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("workspace", symbols));
}

function inside(node, kind) {
  for (let at = node.Parent; at; at = at.Parent) if (is(at, kind)) return true;
  return false;
}

const COMPARISONS = ["BinaryExpression", "InExpression", "HasAnyExpression", "HasAllExpression"];

// The comparison whose right side a text is; an argument of a function is none.
function comparison(literal) {
  let child = literal;
  for (let at = literal.Parent; at && !is(at, "FunctionCallExpression"); child = at, at = at.Parent)
    if (COMPARISONS.some((kind) => is(at, kind))) return child === at.Right ? at : null;
  return null;
}

function check(query, state) {
  const code = KustoCode.ParseAndAnalyze(query, state);
  const found = { problems: [], tables: [], columns: [], comparisons: [], keys: [], patterns: [] };
  for (const each of listed(code.GetDiagnostics())) {
    const line = query.slice(0, each.Start).split("\n").length;
    found.problems.push(`line ${line}: ${each.Severity} ${each.Code}: ${each.Message}`);
  }
  Syntax.SyntaxElement.WalkNodes(code.Syntax, (node) => {
    const symbol = is(node, "NameReference") ? node.ReferencedSymbol : null;
    if (symbol instanceof Symbols.TableSymbol && state.IsDatabaseTable(symbol)) found.tables.push(symbol.Name);
    if (is(node, "NameAndTypeDeclaration") && inside(node, "ParseKvOperator")) found.keys.push(text(node.Name));
    const isText = is(node, "LiteralExpression") && typeof node.LiteralValue === "string";
    if (!isText || inside(node, "NamedParameter")) return;
    const compared = comparison(node);
    if (!compared) found.patterns.push(node.LiteralValue);
    else
      found.comparisons.push({
        column: text(compared.Left),
        operator: text(compared.Operator),
        value: node.LiteralValue,
      });
  });
  const type = code.ResultType;
  if (type && type.Columns) found.columns = listed(type.Columns).map((column) => column.Name);
  return found;
}

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const state = globals(asked.tables);
const answer = {};
for (const [name, query] of Object.entries(asked.queries)) answer[name] = check(query, state);
process.stdout.write(JSON.stringify(answer));
