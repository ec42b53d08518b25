// What people do with the official JavaScript client, unmodified. Prints one JSON object; throws where it must not.
//   node flows.mjs PACKAGE DOOR ORIGIN PICTURE
// Through the doors "host" and "tls", hosted_names.cjs stands in for the hosts file.
const [client, door, origin, pictureBase64] = process.argv.slice(2);
const { fal } = await import(client);
const app = "fal-ai/hidream-e1-full";
const isOldest = client === "client-oldest";
fal.config({
  credentials: "key:secret",
  ...(door === "proxy" && { proxyUrl: { url: `${origin}/api/fal/proxy`, when: "always" } }),
  // The names by plain HTTP: a host header is all that says which part of the service is meant.
  ...(door === "host" && {
    requestMiddleware: async (request) => ({ ...request, url: request.url.replace("https://", "http://") }),
  }),
});

const picture = new Blob([Buffer.from(pictureBase64, "base64")], { type: "image/png" });
const image_url = `data:image/png;base64,${pictureBase64}`;
const input = { image_url, edit_instruction: "make it night", output_format: "png" };
const seen = {};

const run = await fal.run(app, { input: { ...input, seed: 5 } });
seen.run = { seed: run.data.seed, width: run.data.images[0].width, hasRequestId: run.requestId.length === 36 };

const updates = [];
const polled = await fal.subscribe(app, {
  input,
  logs: true,
  pollInterval: 20,
  onQueueUpdate: (status) => updates.push(status),
});
seen.subscribe = {
  images: polled.data.images.length,
  last: updates.at(-1).status,
  logs: updates.at(-1).logs.map((entry) => entry.message),
};

const streamedLogs = [];
await fal.subscribe(app, {
  input,
  logs: true,
  mode: "streaming",
  onQueueUpdate: (status) => streamedLogs.push(...(status.logs ?? [])),
});
seen.streamedSteps = new Set(streamedLogs.map((entry) => entry.message).filter((text) => text.startsWith("step"))).size;

const stream = await fal.stream(app, { input: { ...input, num_inference_steps: 30 } });
let events = 0;
for await (const event of stream) {
  events += 1;
  if (!event.images) throw new Error("an event without images");
}
const done = await stream.done();
seen.stream = { events, final: (await fetch(done.images[0].url)).status };

const url = await fal.storage.upload(picture);
seen.upload = { status: (await fetch(url)).status };
const blobInput = await fal.run(app, { input: { ...input, image_url: picture } });
seen.blobInput = blobInput.data.images[0].width;

const megabytes = isOldest ? 9 : 91; // the oldest client knows no multipart
const large = new Blob([new Uint8Array(megabytes * 2 ** 20)], { type: "application/octet-stream" });
const largeUrl = await fal.storage.upload(large);
seen.large = Number((await fetch(largeUrl, { method: "HEAD" })).headers.get("content-length")) / 2 ** 20 === megabytes;

const { request_id } = await fal.queue.submit(app, { input: { ...input, num_inference_steps: 50 }, priority: "low" });
seen.status = (await fal.queue.status(app, { requestId: request_id, logs: true })).request_id === request_id;
await fal.queue.cancel(app, { requestId: request_id });
try {
  while ((await fal.queue.status(app, { requestId: request_id })).status !== "COMPLETED");
  await fal.queue.result(app, { requestId: request_id });
} catch (error) {
  seen.cancelled = { name: error.name, status: error.status, type: error.body.error_type };
}

try {
  await fal.run(app, { input: { ...input, num_images: 9 } });
} catch (error) {
  seen.invalid = { name: error.name, status: error.status, fields: error.fieldErrors.map((one) => one.loc.at(-1)) };
}
console.log(JSON.stringify(seen));
