import { guideOn } from "./guide.ts";

guideOn("embedded");
