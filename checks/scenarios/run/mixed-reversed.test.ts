import { scenarioTests } from "../suite.ts";

scenarioTests("mixed-reversed");
