import { guideOn } from "./guide.ts";

guideOn("envoy");
