// What a page does with the official client; bundled by esbuild and loaded into a real browser.
import { fal } from "@fal-ai/client";

const app = "fal-ai/hidream-e1-full";
const edit = (picture) => ({ image_url: picture, edit_instruction: "make it night", output_format: "png" });
const widthOf = async (url) => (await createImageBitmap(await (await fetch(url)).blob())).width;

// A page keeps no key: its own backend's proxy address adds it.
window.throughProxy = async (origin, picture) => {
  fal.config({ proxyUrl: `${origin}/api/fal/proxy` });
  const blob = await (await fetch(picture)).blob();
  const seen = { updates: [] };
  const done = await fal.subscribe(app, {
    input: edit(blob), // uploaded by the client
    logs: true,
    pollInterval: 30,
    onQueueUpdate: (update) => seen.updates.push(update.status),
  });
  seen.width = await widthOf(done.data.images[0].url);
  seen.requestId = done.requestId.length;
  const stream = await fal.stream(app, { input: { ...edit(picture), num_inference_steps: 30 } });
  seen.events = 0;
  for await (const event of stream) seen.events += Boolean(event.images);
  seen.streamed = (await stream.done()).images.length;
  try {
    await fal.run(app, { input: { ...edit(picture), num_images: 9 } });
  } catch (error) {
    seen.invalid = [error.name, error.status, error.requestId.length];
  }
  const { request_id: requestId } = await fal.queue.submit(app, { input: { ...edit(picture), num_inference_steps: 50 } });
  await fal.queue.cancel(app, { requestId });
  return seen;
};

// With the hosted names led to the server: streaming with a token, and the websocket.
window.throughNames = async (picture) => {
  fal.config({ credentials: "key:secret", suppressLocalCredentialsWarning: true });
  const stream = await fal.stream(app, { input: edit(picture), connectionMode: "client" });
  const streamed = (await stream.done()).images.length;
  const answers = [];
  await new Promise((resolve, reject) => {
    const connection = fal.realtime.connect(app, {
      connectionKey: "one",
      throttleInterval: 0,
      onError: reject,
      onResult: (result) => {
        answers.push([result.seed, result.images[0].width]);
        if (answers.length === 3) resolve();
        else connection.send({ ...edit(picture), seed: answers.length + 1 });
      },
    });
    connection.send({ ...edit(picture), seed: 1 });
  });
  return { streamed, answers };
};
