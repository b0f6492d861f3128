import { scenarioTests } from "../suite.ts";

scenarioTests("embedded");
