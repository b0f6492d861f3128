import { scenarioTests } from "../suite.ts";

scenarioTests("envoy");
