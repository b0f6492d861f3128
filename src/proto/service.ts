import { type DescMethod, type DescService, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";

/** One method in the form that grpc-js takes: `ServiceDefinition[method]`. */
export interface MethodDefinition<Request, Response> {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (message: Request) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Request;
  readonly responseSerialize: (message: Response) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

/** A generated method as grpc-js wants it. */
export function methodDefinition<M extends DescMethod>(
  method: M,
): MethodDefinition<MessageShape<M["input"]>, MessageShape<M["output"]>> {
  const write = (schema: M["input"] | M["output"]) => (message: MessageShape<typeof schema>) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: write(method.input),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes) as MessageShape<M["input"]>,
    responseSerialize: write(method.output),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes) as MessageShape<M["output"]>,
  };
}

/** A generated service as the plain table of methods that grpc-js takes. */
export function serviceDefinition(service: DescService): Record<string, MethodDefinition<never, never>> {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      methodDefinition(method) as unknown as MethodDefinition<never, never>,
    ]),
  );
}
