// Azurite loads this library before it reads --disableTelemetry, and then never calls it.
const Module = require("node:module");

const load = Module._load;
Module._load = (request, ...rest) =>
  request === "applicationinsights" ? {} : load(request, ...rest);
