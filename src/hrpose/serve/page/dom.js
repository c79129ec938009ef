// Elements in one call.

/** A new element: `properties` are set on it, those with a dash as attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A table with column heads; each row is a list of texts or elements, the first heads its row. */
export function makeTable(heads, rows) {
  const table = make("table");
  const head = table.createTHead().insertRow();
  for (const text of heads) head.append(make("th", { scope: "col", textContent: text }));
  const body = table.createTBody();
  for (const [first, ...others] of rows) {
    const row = body.insertRow();
    row.append(make("th", { scope: "row" }, first));
    for (const cell of others) row.insertCell().append(cell);
  }
  return table;
}
