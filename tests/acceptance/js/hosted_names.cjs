// What a line in the hosts file would do: the hosted names lead to the server under test. Loaded before the client.
const net = require("node:net");
const tls = require("node:tls");

const port = Number(process.env.SERVER_PORT);
const isHosted = (host) => /(^|\.)fal\.(run|ai|media)$/.test(host ?? "");

for (const module of [net, tls]) {
  const connect = module.connect;
  module.connect = (options, ...rest) =>
    connect.call(module, isHosted(options.host) ? { ...options, host: "127.0.0.1", port } : options, ...rest);
}
