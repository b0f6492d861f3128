import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RouteSchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";

/** What a proxy takes as the body of an answer of its own when nothing is said, in bytes. */
const usual = 4096;
/** What it takes when we say so; resources are held to the same. */
const most = 1024 * 1024;

/** What a route configuration must say of its answers' bodies: nothing, unless one is long. */
export function bodyLimit(
  routes: ReadonlyArray<MessageInitShape<typeof RouteSchema>>,
): Pick<MessageInitShape<typeof RouteConfigurationSchema>, "maxDirectResponseBodySizeBytes"> {
  const long = routes.some(({ action }) => {
    const body = action?.case === "directResponse" ? action.value.body?.specifier : undefined;
    return body?.case === "inlineBytes" && body.value.length > usual;
  });
  return long ? { maxDirectResponseBodySizeBytes: most } : {};
}
