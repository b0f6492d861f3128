import { z } from "zod";
import { type Kind, type KindRow, kindNames, kinds } from "./kinds.ts";

/** A part of a structural schema (apiextensions.k8s.io/v1): the types of fields and what they hold. */
export interface StructuralSchema {
  readonly type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  readonly format?: "int64" | "double";
  readonly properties?: Readonly<Record<string, StructuralSchema>>;
  readonly items?: StructuralSchema;
  readonly additionalProperties?: StructuralSchema;
  readonly "x-kubernetes-preserve-unknown-fields"?: true;
}

/** What `kubectl get` shows of a kind, beside name and age. */
interface Column {
  readonly name: string;
  readonly type: "string" | "boolean" | "integer" | "date";
  readonly jsonPath: string;
  readonly description: string;
}

interface Names {
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly columns: readonly Column[];
}

const hosts: Column = { name: "Hosts", type: "string", jsonPath: ".spec.hosts", description: "names that it is about" };

/** The kinds that a cluster does not know by itself, with the names by which `kubectl` users call them. */
const custom = {
  ServiceEntry: {
    singular: "serviceentry",
    shortNames: ["se"],
    columns: [
      hosts,
      { name: "Location", type: "string", jsonPath: ".spec.location", description: "inside the mesh, or outside" },
      { name: "Resolution", type: "string", jsonPath: ".spec.resolution", description: "how its endpoints are found" },
    ],
  },
  WorkloadEntry: {
    singular: "workloadentry",
    shortNames: ["we"],
    columns: [{ name: "Address", type: "string", jsonPath: ".spec.address", description: "where it can be reached" }],
  },
  Gateway: { singular: "gateway", shortNames: ["gw"], columns: [] },
  VirtualService: {
    singular: "virtualservice",
    shortNames: ["vs"],
    columns: [{ name: "Gateways", type: "string", jsonPath: ".spec.gateways", description: "where it holds" }, hosts],
  },
  DestinationRule: {
    singular: "destinationrule",
    shortNames: ["dr"],
    columns: [{ name: "Host", type: "string", jsonPath: ".spec.host", description: "the service that it is about" }],
  },
} as const satisfies Partial<Record<Kind, Names>>;

export type CustomKind = keyof typeof custom;
export const customKinds = kindNames.filter((kind): kind is CustomKind => kind in custom);

const age: Column = {
  name: "Age",
  type: "string",
  jsonPath: ".metadata.creationTimestamp",
  description: "since it was made",
};

/**
 * The definition of a kind, made from the schema that reads it. It says which fields there are and of which type; what
 * values may be is said in one place only, by the reader, which sees every object before the API server keeps it.
 * Unknown fields are let through to it for the same reason: it says which field was meant.
 */
export function customResourceDefinition(kind: CustomKind) {
  const row: KindRow = kinds[kind];
  const { singular, shortNames, columns }: Names = custom[kind];
  const openAPIV3Schema = objectSchema(row);
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${row.plural}.${row.group}` },
    spec: {
      group: row.group,
      names: {
        kind,
        listKind: `${kind}List`,
        plural: row.plural,
        singular,
        shortNames,
        categories: ["isthmus", "istio-io"],
      },
      scope: row.scope === "cluster" ? "Cluster" : "Namespaced",
      // The versions differ in name only, so one may be kept and given out as another.
      conversion: { strategy: "None" },
      versions: row.versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        subresources: { status: {} },
        additionalPrinterColumns: [...columns, age],
        schema: { openAPIV3Schema },
      })),
    },
  };
}

function objectSchema(row: KindRow): StructuralSchema {
  const { properties = {} } = structural(z.toJSONSchema(row.schema, { io: "input" }) as JsonSchema);
  return { type: "object", properties: { ...properties, status: openObject } };
}

const openObject: StructuralSchema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };

/** The part of JSON Schema in which zod describes our kinds. */
interface JsonSchema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
}

/** Throws for what has no structural form: a schema with unions is to be written otherwise. */
export function structural(schema: JsonSchema): StructuralSchema {
  const { type, properties, items, additionalProperties } = schema;
  switch (type) {
    case "object": {
      if (properties) {
        const fields = Object.entries(properties).map(([name, field]) => [name, structural(field)] as const);
        return { ...openObject, properties: Object.fromEntries(fields) };
      }
      if (typeof additionalProperties === "object") {
        return { type, additionalProperties: structural(additionalProperties) };
      }
      return openObject;
    }
    case "array":
      return { type, items: items ? structural(items) : openObject };
    case "integer":
      return { type, format: "int64" };
    case "number":
      return { type, format: "double" };
    case "string":
    case "boolean":
      return { type };
    default:
      if (Object.keys(schema).length === 0) return { "x-kubernetes-preserve-unknown-fields": true };
      throw new Error(`BUG: no structural form for ${JSON.stringify(schema)}`);
  }
}
