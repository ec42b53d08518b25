// The same request in three languages, to copy.
import { APP } from "./api.js";

const python = (value) => JSON.stringify(value, null, 4).replace(/: true/g, ": True").replace(/: false/g, ": False").replace(/: null/g, ": None");
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

export const snippets = {
  curl: (input, origin) =>
    [
      `curl ${origin}/${APP} \\`,
      `  -H "Authorization: Key $HIDREAM_EDIT_KEY" \\`,
      `  -H "Content-Type: application/json" \\`,
      `  -d ${quoted(JSON.stringify(input))}`,
    ].join("\n"),
  javascript: (input, origin) =>
    [
      `import { fal } from "@fal-ai/client";`,
      ``,
      `fal.config({`,
      `  credentials: process.env.HIDREAM_EDIT_KEY ?? "none",`,
      `  proxyUrl: { url: "${origin}/api/fal/proxy", when: "always" },`,
      `});`,
      `const { data } = await fal.subscribe("${APP}", {`,
      `  input: ${JSON.stringify(input, null, 2).replaceAll("\n", "\n  ")},`,
      `});`,
      `console.log(data.images[0].url, data.seed);`,
    ].join("\n"),
  python: (input, origin) =>
    [
      `import os`,
      ``,
      `import httpx`,
      ``,
      `answer = httpx.post(`,
      `    "${origin}/${APP}",`,
      `    headers={"Authorization": f"Key {os.environ.get('HIDREAM_EDIT_KEY', 'none')}"},`,
      `    json=${python(input).replaceAll("\n", "\n    ")},`,
      `    timeout=600,`,
      `)`,
      `print(answer.raise_for_status().json()["images"][0]["url"])`,
    ].join("\n"),
};
