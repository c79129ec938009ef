// The page at /docs: every route of /openapi.json, readable without scripts from elsewhere.

import { make, makeTable } from "./dom.js";
import { firstLanguage, setLanguage, t } from "./language.js";
import { fetchJson } from "./server.js";

let description = null;

async function start() {
  setLanguage(firstLanguage());
  try {
    description = await fetchJson("/openapi.json");
  } catch (error) {
    document.getElementById("notice").textContent = t(error.code);
    document.getElementById("notice").hidden = false;
    return;
  }
  show();
}

function show() {
  const [before, after] = t("apiLead").split("{file}");
  const link = make("a", { href: "/openapi.json", textContent: "/openapi.json" });
  document.getElementById("api-lead").replaceChildren(before, link, after);
  const routes = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => section(method.toUpperCase(), path, route)));
  document.getElementById("routes").replaceChildren(...routes);
}

/** One route: what it does, an example, its options, its answers and their fields. */
function section(method, path, route) {
  const parts = [
    make("h2", {}, make("code", { textContent: `${method} ${path}` })),
    ...english(route.description).split("\n\n").map((text) => make("p", { lang: "en", textContent: text })),
  ];
  if (route.security) parts.push(make("p", { textContent: t("apiToken") }));
  parts.push(make("h3", { textContent: t("apiTry") }), example(method, path, route));
  if (route.parameters) {
    parts.push(make("h3", { textContent: t("apiOptions") }), make("p", { textContent: t("apiOptionsMore") }));
    parts.push(fields(route.parameters.map(({ name, schema }) => [name, schema])));
  }
  const [good, ...errors] = Object.entries(route.responses);
  const answer = schemaOf(good[1]);
  if (answer) parts.push(make("h3", { textContent: t("apiAnswers") }), ...nested(answer));
  const refused = errors.filter(([, { content }]) => content);
  if (refused.length) {
    parts.push(make("h3", { textContent: t("apiErrors") }), make("p", { textContent: t("apiErrorsMore") }));
    parts.push(table(["apiStatus", "apiMeaning"], refused.map(([status, { description: text }]) => [
      make("code", { textContent: status }), english(text),
    ])));
  }
  return make("section", {}, ...parts);
}

/** A command that calls the route. */
function example(method, path, route) {
  const token = route.security ? ` -H "Authorization: Bearer $HRPOSE_TOKEN"` : "";
  const image = method === "POST" ? " -F image=@photo.jpg" : "";
  return make("pre", { tabIndex: 0 }, make("code", { textContent: `curl${token}${image} ${location.origin}${path}` }));
}

function schemaOf(answer) {
  const name = answer.content?.["application/json"]?.schema?.$ref?.split("/").at(-1);
  return name ? [name, description.components.schemas[name]] : null;
}

/** A schema's fields, and below them those of the schemas that it names. */
function nested([name, schema], known = new Set()) {
  known.add(name);
  const named = [...JSON.stringify(schema.properties ?? {}).matchAll(/schemas\/(\w+)/g)].map((m) => m[1]);
  return [
    make("h4", {}, make("code", { textContent: name })),
    make("p", { lang: "en", textContent: english(schema.description) }),
    fields(Object.entries(schema.properties ?? {})),
    ...named.filter((other) => !known.has(other))
      .flatMap((other) => nested([other, description.components.schemas[other]], known)),
  ];
}

function fields(entries) {
  return table(["apiName", "apiType", "apiDefault", "apiMeaning"], entries.map(([name, schema]) => [
    make("code", { textContent: name }),
    make("code", { textContent: typeOf(schema) }),
    schema.default === undefined ? "" : make("code", { textContent: JSON.stringify(schema.default) }),
    make("span", { lang: "en", textContent: english(schema.description) }),
  ]));
}

/** A schema's type in few words: `number 0 to 1`, `array of Person`. */
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const either = schema.anyOf?.filter(({ type }) => type !== "null");
  if (either) return either.map(typeOf).join(" or ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(typeOf).join(", ")}]`;
  if (schema.items) return `array of ${typeOf(schema.items)}`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const range = schema.minimum !== undefined && schema.maximum !== undefined;
  return range ? `${schema.type} ${schema.minimum} to ${schema.maximum}` : schema.type ?? "";
}

const english = (text) => (text ?? "").replaceAll("`", "");

/** A table without the columns in which no row has anything. */
function table(keys, allRows) {
  const filled = keys.map((_, column) => allRows.some((row) => row[column].textContent ?? row[column]));
  const [heads, ...rows] = [keys, ...allRows].map((row) => row.filter((_, column) => filled[column]));
  return make("div", { className: "wide", tabIndex: 0, role: "group", "aria-label": heads.map((key) => t(key)).join(", ") },
    makeTable(heads.map((key) => t(key)), rows));
}

document.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-language]")?.dataset.language;
  if (!chosen) return;
  setLanguage(chosen, { store: true });
  if (description) show();
});

start();
