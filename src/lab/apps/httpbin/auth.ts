import { type Call, type Route, sendJson } from "./route.ts";

export const authRoutes: readonly Route[] = [
  { methods: ["GET"], path: "/basic-auth/:user/:password", run: (call) => basicAuth(call, 401) },
  { methods: ["GET"], path: "/hidden-basic-auth/:user/:password", run: (call) => basicAuth(call, 404) },
  {
    methods: ["GET"],
    path: "/bearer",
    run(call) {
      const token = /^Bearer (.+)$/.exec(call.request.headers.authorization ?? "")?.[1];
      if (token) return sendJson(call, { authenticated: true, token });
      call.response.writeHead(401, { "WWW-Authenticate": "Bearer", "Content-Length": "0" }).end();
    },
  },
];

function basicAuth(call: Call, refusal: 401 | 404): void {
  const given = /^Basic (.+)$/i.exec(call.request.headers.authorization ?? "")?.[1] ?? "";
  const { user, password } = call.params;
  if (Buffer.from(given, "base64").toString("utf8") === `${user}:${password}`) {
    sendJson(call, { authenticated: true, user });
    return;
  }
  const challenge = refusal === 401 ? { "WWW-Authenticate": 'Basic realm="Fake Realm"' } : {};
  call.response.writeHead(refusal, { ...challenge, "Content-Length": "0" }).end();
}
