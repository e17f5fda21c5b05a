// What Sentry's own JavaScript packages say of envelopes: framing and DSC by @sentry/core, attribute names, types and
// deprecations by @sentry/conventions.   node sentry_js_check.mjs FOLDER_WITH_NODE_MODULES ENVELOPE_FILE...
// One line for each finding; ends 1 on any.
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const [folder, ...files] = process.argv.slice(2);
const load = createRequire(path.resolve(folder, "x.js"));
const core = load("@sentry/core");
const { ATTRIBUTE_METADATA: KNOWN } = load("@sentry/conventions");
const OPS = new Set(Object.values(load("@sentry/conventions/op")));
const TYPES = new Set(["string", "boolean", "integer", "double", "array"]);
const JS = { string: "string", boolean: "boolean", integer: "number", double: "number" };
const SPAN = { trace_id: "string", span_id: "string", name: "string", status: "string", is_segment: "boolean",
  start_timestamp: "number", end_timestamp: "number", attributes: "object" };
const OPTIONAL = new Set(["parent_span_id", "links"]);
let bad = 0;
const note = (...words) => { bad++; console.log(...words); };
const hex = (text, length) => typeof text === "string" && new RegExp(`^[0-9a-f]{${length}}$`).test(text);

function checkTrace(trace) {
  for (const key of ["trace_id", "public_key"]) if (!trace[key]) note("DSC has no", key);
  for (const [key, value] of Object.entries(trace)) if (typeof value !== "string") note("DSC", key, "is", typeof value);
  const header = core.dynamicSamplingContextToSentryBaggageHeader(trace);
  const back = core.baggageHeaderToDynamicSamplingContext(header);
  if (JSON.stringify(back) !== JSON.stringify(trace)) note("DSC changes in a round trip", JSON.stringify(back));
}

function checkAttributes(attributes) {
  for (const [key, one] of Object.entries(attributes)) {
    if (one === null || typeof one !== "object" || Object.keys(one).sort().join() !== "type,value") {
      note(key, "is not {value, type}");
      continue;
    }
    if (!TYPES.has(one.type)) note(key, "has type", one.type);
    const fits = one.type === "array" ? Array.isArray(one.value) : typeof one.value === JS[one.type];
    if (!fits || (one.type === "integer" && !Number.isInteger(one.value))) note(key, "is no", one.type, one.value);
    const known = KNOWN[key];
    const wanted = known?.type?.endsWith("[]") ? "array" : known?.type;
    if (wanted && wanted !== "any" && one.type !== wanted && !(wanted === "double" && one.type === "integer"))
      note(key, "has type", one.type, "not", wanted);
    if (known?.deprecation) note(key, "is deprecated ->", known.deprecation.replacement ?? "nothing");
  }
}

function checkSpan(span, trace) {
  for (const [key, type] of Object.entries(SPAN)) if (typeof span[key] !== type) note("span's", key, "is", typeof span[key]);
  for (const key of Object.keys(span)) if (!(key in SPAN) && !OPTIONAL.has(key)) note("span has", key);
  if (!hex(span.trace_id, 32) || (trace && span.trace_id !== trace.trace_id)) note("trace_id", span.trace_id);
  for (const key of ["span_id", "parent_span_id"])
    if (span[key] !== undefined && !hex(span[key], 16)) note(key, span[key]);
  if (!["ok", "error"].includes(span.status)) note("status", span.status);
  if (span.end_timestamp < span.start_timestamp) note("ends before it starts");
  for (const key of ["sentry.segment.id", "sentry.sdk.name", "sentry.origin"])
    if (!span.attributes[key]) note("span has no", key);
  const op = span.attributes["sentry.op"]?.value;
  if (op && !OPS.has(op) && !op.startsWith("test.")) note("op", op, "is not in the conventions");
  checkAttributes(span.attributes);
  for (const link of span.links ?? []) {
    if (!hex(link.trace_id, 32) || !hex(link.span_id, 16)) note("link", JSON.stringify(link));
    checkAttributes(link.attributes ?? {});
  }
}

// Logs and metrics: what they need, what they may have, how many fit. No `trace` header: a batch is of many traces.
const LOOSE = {
  log: { content: "log", most: 100, also: ["span_id", "severity_number"], needs: { timestamp: "number", trace_id: "string",
    level: "string", body: "string", attributes: "object" } },
  trace_metric: { content: "trace-metric", most: 1000, also: ["span_id", "unit"], needs: { timestamp: "number",
    trace_id: "string", name: "string", type: "string", value: "number", attributes: "object" } },
};
const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"];
const METRICS = ["counter", "gauge", "distribution"];

function checkLoose(head, body, trace) {
  const { content, most, also, needs } = LOOSE[head.type];
  if (trace) note(head.type, "in an envelope with a trace header");
  if (head.content_type !== `application/vnd.sentry.items.${content}+json`) note("content type", head.content_type);
  if (head.item_count !== body.items.length) note("item_count", head.item_count, "of", body.items.length);
  if (body.version !== 2 || body.items.length > most) note("version", body.version, "with", body.items.length, "items");
  for (const item of body.items) {
    for (const [key, type] of Object.entries(needs)) if (typeof item[key] !== type) note(head.type, key, typeof item[key]);
    for (const key of Object.keys(item)) if (!(key in needs) && !also.includes(key)) note(head.type, "has", key);
    if (!hex(item.trace_id, 32)) note("trace_id", item.trace_id);
    if (item.span_id !== undefined && !hex(item.span_id, 16)) note("span_id", item.span_id);
    if (head.type === "log" && !LEVELS.includes(item.level)) note("level", item.level);
    if (head.type === "trace_metric" && !METRICS.includes(item.type)) note("type", item.type);
    checkAttributes(item.attributes);
  }
}

for (const file of files) {
  const [header, items] = core.parseEnvelope(fs.readFileSync(file));
  if (Number.isNaN(Date.parse(header.sent_at))) note("sent_at", header.sent_at);
  if (header.trace) checkTrace(header.trace);
  for (const [head, payload] of items) {
    if (head.type !== "span" && !LOOSE[head.type]) continue;
    const body = payload instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(payload)) : payload;
    if (LOOSE[head.type]) {
      checkLoose(head, body, header.trace);
      continue;
    }
    if (head.content_type !== "application/vnd.sentry.items.span.v2+json") note("content type", head.content_type);
    if (head.item_count !== body.items.length) note("item_count", head.item_count, "of", body.items.length);
    if (body.version !== 2) note("version", body.version);
    if (body.items.length > 1000) note(body.items.length, "items");
    if (!header.trace) note("no trace header");
    for (const span of body.items) checkSpan(span, header.trace);
  }
}
process.exit(bad ? 1 : 0);
