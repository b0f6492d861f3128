// What every part stands on: time, values that change, lifetimes, failures, logs, metrics.
// Absent on purpose: anything that knows of a mesh.
export { type AdminAddress, type AdminReply, type AdminRequest, type AdminRoutes, startAdmin } from "./admin.ts";
export { type BackoffOptions, backoffMs } from "./backoff.ts";
export { Cell, until } from "./cell.ts";
export { type Clock, sleep, systemClock, type Timer } from "./clock.ts";
export { explain, Failure, type FailureOptions, unreachable, within } from "./failure.ts";
export { packageFile, packageVersion, programFile } from "./installation.ts";
export { createLogger, type Logger, type LogLevel, logLevels, silentLogger } from "./log.ts";
export { addCounts, type Counter, type Gauge, type Histogram, Metrics, type MetricsSnapshot } from "./metrics.ts";
export { Scope } from "./scope.ts";
