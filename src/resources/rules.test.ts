import { describe, expect, test } from "vitest";
import { type Code, codes, readResources } from "./index.ts";

const seen = new Set<Code>();

/** What is said of one object, as `path CODE`; the places are the business of other tests. */
function said(kind: string, spec: string, top = ""): string[] {
  const version =
    { Service: "v1", Secret: "v1", Deployment: "apps/v1", EndpointSlice: "discovery.k8s.io/v1" }[kind] ??
    "networking.istio.io/v1";
  const body = spec === "" ? "" : `spec: ${spec}\n`;
  const { violations } = readResources(`apiVersion: ${version}\nkind: ${kind}\nmetadata: {name: x}\n${body}${top}`, {
    cluster: "c",
  });
  for (const { code } of violations) seen.add(code);
  return violations.map(({ path, code }) => `${path} ${code}`.trim());
}

interface Row {
  readonly it: string;
  readonly spec: string;
  /** What is said, in order; nothing is good. */
  readonly gets?: readonly string[];
}

const port = "{name: http1, number: 8000, protocol: http}";
const entry = (rest: string) => `{hosts: [a.example.com], ports: [${port}], ${rest}}`;

const serviceEntries: readonly Row[] = [
  {
    it: "the example of the walkthrough",
    spec: `{hosts: [httpbin.bar.global], location: MESH_INTERNAL, ports: [${port}], resolution: DNS, addresses: [240.0.0.2], endpoints: [{address: gw.example.com, ports: {http1: 15443}}]}`,
  },
  { it: "no hosts", spec: `{hosts: [], ports: [${port}]}`, gets: ["spec.hosts ISM0305"] },
  { it: "a host that is all", spec: `{hosts: ["*"], ports: [${port}]}`, gets: ["spec.hosts[0] ISM0306"] },
  { it: "a host with an empty label", spec: `{hosts: [a..b], ports: [${port}]}`, gets: ["spec.hosts[0] ISM0306"] },
  {
    it: "a wildcard below .global",
    spec: `{hosts: ["*.bar.global"], location: MESH_INTERNAL, ports: [${port}], resolution: DNS, endpoints: [{address: 1.2.3.4}]}`,
  },
  {
    it: "a .global host without namespace",
    spec: `{hosts: [httpbin.global], location: MESH_INTERNAL, ports: [${port}]}`,
    gets: ["spec.hosts[0] ISM0416"],
  },
  {
    it: "a .global host outside the mesh",
    spec: `{hosts: [httpbin.bar.global], ports: [${port}]}`,
    gets: ["spec.hosts[0] ISM0420"],
  },
  { it: "an address that is none", spec: entry("addresses: [1.2.3]"), gets: ["spec.addresses[0] ISM0307"] },
  { it: "a multicast address", spec: entry("addresses: [224.1.1.1]"), gets: ["spec.addresses[0] ISM0403"] },
  { it: "a loopback address", spec: entry("addresses: [127.0.0.5]"), gets: ["spec.addresses[0] ISM0403"] },
  { it: "an IPv6 multicast address", spec: entry('addresses: ["ff02::1"]'), gets: ["spec.addresses[0] ISM0403"] },
  { it: "a link-local address", spec: entry("addresses: [169.254.169.254]"), gets: ["spec.addresses[0] ISM0426"] },
  { it: "one address twice", spec: entry("addresses: [240.0.0.2, 240.0.0.2]"), gets: ["spec.addresses[1] ISM0423"] },
  { it: "a range with NONE", spec: entry("addresses: [10.0.0.0/8]") },
  {
    it: "a range with DNS",
    spec: entry("resolution: DNS, addresses: [10.0.0.0/8]"),
    gets: ["spec.addresses[0] ISM0402"],
  },
  {
    it: "two ports of one name",
    spec: `{hosts: [a.b.com], ports: [${port}, {name: http1, number: 81}]}`,
    gets: ["spec.ports[1].name ISM0405"],
  },
  {
    it: "two ports of one number",
    spec: `{hosts: [a.b.com], ports: [${port}, {name: b, number: 8000}]}`,
    gets: ["spec.ports[1].number ISM0405"],
  },
  {
    it: "a port without name",
    spec: "{hosts: [a.b.com], ports: [{number: 80}]}",
    gets: ["spec.ports[0].name ISM0302"],
  },
  {
    it: "a port number out of range",
    spec: "{hosts: [a.b.com], ports: [{name: a, number: 0}]}",
    gets: ["spec.ports[0].number ISM0305"],
  },
  {
    it: "a protocol nobody knows",
    spec: "{hosts: [a.b.com], ports: [{name: a, number: 1, protocol: htp}]}",
    gets: ["spec.ports[0].protocol ISM0304"],
  },
  { it: "no ports", spec: "{hosts: [a.b.com]}", gets: ["spec.ports ISM0425"] },
  {
    it: "a target port out of range",
    spec: "{hosts: [a.b.com], ports: [{name: a, number: 1, targetPort: 70000}]}",
    gets: ["spec.ports[0].targetPort ISM0305"],
  },
  { it: "endpoints with NONE", spec: entry("endpoints: [{address: 1.2.3.4}]"), gets: ["spec.endpoints ISM0406"] },
  {
    it: "a name with STATIC",
    spec: entry("resolution: STATIC, endpoints: [{address: a.b.com}]"),
    gets: ["spec.endpoints[0].address ISM0407"],
  },
  {
    it: "an endpoint address that is none",
    spec: entry('resolution: DNS, endpoints: [{address: "a b"}]'),
    gets: ["spec.endpoints[0].address ISM0311"],
  },
  {
    it: "an endpoint without address",
    spec: entry("resolution: DNS, endpoints: [{labels: {a: b}}]"),
    gets: ["spec.endpoints[0].address ISM0302"],
  },
  { it: "an endpoint of a network's gateway", spec: entry("resolution: STATIC, endpoints: [{network: n2}]") },
  { it: "a unix socket", spec: entry('resolution: STATIC, endpoints: [{address: "unix:///run/a.sock"}]') },
  {
    it: "a unix path that is relative",
    spec: entry('resolution: STATIC, endpoints: [{address: "unix://a"}]'),
    gets: ["spec.endpoints[0].address ISM0311"],
  },
  {
    it: "a unix socket with DNS",
    spec: entry('resolution: DNS, endpoints: [{address: "unix:///a"}]'),
    gets: ["spec.endpoints[0].address ISM0407"],
  },
  {
    it: "a unix socket with ports",
    spec: entry('resolution: STATIC, endpoints: [{address: "unix:///a", ports: {http1: 1}}]'),
    gets: ["spec.endpoints[0].ports ISM0412"],
  },
  {
    it: "a unix socket of two ports",
    spec: `{hosts: [a.b.com], resolution: STATIC, ports: [${port}, {name: b, number: 2}], endpoints: [{address: "unix:///a"}]}`,
    gets: ["spec.ports ISM0412"],
  },
  {
    it: "ports keyed by number",
    spec: entry("resolution: DNS, endpoints: [{address: 1.2.3.4, ports: {8000: 15443}}]"),
    gets: ['spec.endpoints[0].ports["8000"] ISM0411'],
  },
  {
    it: "ports keyed by another name",
    spec: entry("resolution: DNS, endpoints: [{address: 1.2.3.4, ports: {http: 15443}}]"),
    gets: ["spec.endpoints[0].ports.http ISM0413"],
  },
  {
    it: "an endpoint port out of range",
    spec: entry("resolution: STATIC, endpoints: [{address: 1.2.3.4, ports: {http1: 0}}]"),
    gets: ["spec.endpoints[0].ports.http1 ISM0305"],
  },
  {
    it: "an endpoint label that is none",
    spec: entry('resolution: DNS, endpoints: [{address: 1.2.3.4, labels: {"a b": c}}]'),
    gets: ['spec.endpoints[0].labels["a b"] ISM0310'],
  },
  {
    it: "DNS without endpoints for a wildcard",
    spec: `{hosts: ["*.b.com"], ports: [${port}], resolution: DNS}`,
    gets: ["spec.hosts[0] ISM0408"],
  },
  {
    it: "several hosts on a TCP port",
    spec: "{hosts: [a.b.com, c.b.com], ports: [{name: a, number: 1, protocol: TCP}], resolution: DNS}",
    gets: ["spec.hosts ISM0409"],
  },
  {
    it: "a selector and endpoints",
    spec: entry("resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: 1.2.3.4}]"),
    gets: ["spec.workloadSelector ISM0401"],
  },
  {
    it: "a wildcard in a selector",
    spec: entry('resolution: STATIC, workloadSelector: {labels: {a: "*"}}'),
    gets: ["spec.workloadSelector.labels.a ISM0310"],
  },
  {
    it: "an empty selector",
    spec: entry("resolution: STATIC, workloadSelector: {labels: {}}"),
    gets: ["spec.workloadSelector ISM0421"],
  },
  {
    it: "a selector with NONE",
    spec: entry("workloadSelector: {labels: {a: b}}"),
    gets: ["spec.workloadSelector ISM0422"],
  },
  { it: "STATIC without endpoints", spec: entry("resolution: STATIC"), gets: ["spec.endpoints ISM0424"] },
  {
    it: "round robin over two endpoints",
    spec: entry("resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: c.d}]"),
    gets: ["spec.endpoints ISM0414"],
  },
  { it: "dynamic DNS for a plain host", spec: entry("resolution: DYNAMIC_DNS"), gets: ["spec.hosts[0] ISM0415"] },
  { it: "exportTo of all and one", spec: entry('exportTo: ["*", a]'), gets: ["spec.exportTo[0] ISM0312"] },
  { it: "exportTo of nobody", spec: entry('exportTo: ["~"]') },
  { it: "exportTo of what is no namespace", spec: entry("exportTo: [A_b]"), gets: ["spec.exportTo[0] ISM0312"] },
  { it: "a resolution that does not exist", spec: entry("resolution: dns"), gets: ["spec.resolution ISM0304"] },
  {
    it: "a placeholder, told once",
    spec: entry(`resolution: STATIC, endpoints: [{address: "$\{CLUSTER2_GW_ADDR}"}]`),
    gets: ["spec.endpoints[0].address ISM0110"],
  },
  { it: "an unknown field", spec: entry("adresses: [240.0.0.2]"), gets: ["spec.adresses ISM0301"] },
  { it: "a list that is text", spec: "{hosts: a.b.com}", gets: ["spec.hosts ISM0303", "spec.ports ISM0425"] },
];

const to = "route: [{destination: {host: a.b.global}}]";
const rule = (http: string) => `{hosts: [a.b.global], http: [{${http}}]}`;

const virtualServices: readonly Row[] = [
  { it: "a plain route", spec: rule(to) },
  { it: "no rules", spec: "{hosts: [a.b.com]}", gets: ["spec ISM0503"] },
  { it: "all hosts for sidecars", spec: `{hosts: ["*"], http: [{${to}}]}`, gets: ["spec.hosts[0] ISM0501"] },
  { it: "all hosts for a gateway", spec: `{hosts: ["*"], gateways: [g], http: [{${to}}]}` },
  {
    it: "a host that covers another",
    spec: `{hosts: [a.b.com, "*.b.com"], http: [{${to}}]}`,
    gets: ["spec.hosts[0] ISM0502"],
  },
  {
    it: "a gateway name that is none",
    spec: `{hosts: [a.b.com], gateways: [a/b/c], http: [{${to}}]}`,
    gets: ["spec.gateways[0] ISM0504"],
  },
  { it: "nothing to do", spec: rule("name: x"), gets: ["spec.http[0] ISM0505"] },
  { it: "a route and a redirect", spec: rule(`${to}, redirect: {uri: /}`), gets: ["spec.http[0].redirect ISM0505"] },
  {
    it: "a redirect and a rewrite",
    spec: rule("redirect: {uri: /}, rewrite: {uri: /}"),
    gets: ["spec.http[0].rewrite ISM0505"],
  },
  { it: "an empty redirect", spec: rule("redirect: {}"), gets: ["spec.http[0].redirect ISM0512"] },
  {
    it: "a redirect with another code",
    spec: rule("redirect: {uri: /, redirectCode: 200}"),
    gets: ["spec.http[0].redirect.redirectCode ISM0305"],
  },
  { it: "an empty rewrite", spec: rule(`${to}, rewrite: {}`), gets: ["spec.http[0].rewrite ISM0512"] },
  {
    it: "several destinations without weights",
    spec: rule("route: [{destination: {host: a}}, {destination: {host: b}}]"),
    gets: ["spec.http[0].route ISM0506"],
  },
  {
    it: "a negative weight",
    spec: rule("route: [{destination: {host: a}, weight: -1}]"),
    gets: ["spec.http[0].route[0].weight ISM0305"],
  },
  {
    it: "a wildcard destination",
    spec: rule('route: [{destination: {host: "*.b"}}]'),
    gets: ["spec.http[0].route[0].destination.host ISM0306"],
  },
  {
    it: "a subset that is no label",
    spec: rule("route: [{destination: {host: a, subset: v_1}}]"),
    gets: ["spec.http[0].route[0].destination.subset ISM0308"],
  },
  { it: "a duration without unit", spec: rule(`${to}, timeout: "5"`), gets: ["spec.http[0].timeout ISM0309"] },
  { it: "a duration that is a number", spec: rule(`${to}, timeout: 5`), gets: ["spec.http[0].timeout ISM0303"] },
  { it: "a duration below a millisecond", spec: rule(`${to}, timeout: 10us`), gets: ["spec.http[0].timeout ISM0309"] },
  {
    it: "retries without attempts",
    spec: rule(`${to}, retries: {attempts: 0, perTryTimeout: 1s}`),
    gets: ["spec.http[0].retries.perTryTimeout ISM0507"],
  },
  {
    it: "a retry condition nobody knows",
    spec: rule(`${to}, retries: {attempts: 1, retryOn: "5xx, 503,oops"}`),
    gets: ["spec.http[0].retries.retryOn ISM0508"],
  },
  {
    it: "a regex that does not compile",
    spec: rule(`match: [{uri: {regex: "a("}}], ${to}`),
    gets: ["spec.http[0].match[0].uri.regex ISM0510"],
  },
  {
    it: "a regex that is too long",
    spec: rule(`match: [{uri: {regex: "${"a".repeat(1025)}"}}], ${to}`),
    gets: ["spec.http[0].match[0].uri.regex ISM0510"],
  },
  {
    it: "a regex that looks ahead",
    spec: rule(`match: [{uri: {regex: "a(?=b)"}}], ${to}`),
    gets: ["spec.http[0].match[0].uri.regex ISM0511"],
  },
  {
    it: "a regex with a backreference",
    spec: rule(`match: [{uri: {regex: '(a)\\1'}}], ${to}`),
    gets: ["spec.http[0].match[0].uri.regex ISM0511"],
  },
  { it: "a regex in RE2's own words", spec: rule(`match: [{uri: {regex: "(?i)(?P<x>a[(?=])"}}], ${to}`) },
  {
    it: "a match of two kinds",
    spec: rule(`match: [{uri: {exact: a, prefix: b}}], ${to}`),
    gets: ["spec.http[0].match[0].uri.prefix ISM0515"],
  },
  { it: "an empty uri match", spec: rule(`match: [{uri: {}}], ${to}`), gets: ["spec.http[0].match[0].uri ISM0515"] },
  { it: "a header that only has to be there", spec: rule(`match: [{headers: {x-a: {}}}], ${to}`) },
  {
    it: "a header name with a space",
    spec: rule(`match: [{headers: {"x a": {exact: b}}}], ${to}`),
    gets: ['spec.http[0].match[0].headers["x a"] ISM0514'],
  },
  {
    it: "an empty header name to set",
    spec: rule(`${to}, headers: {request: {set: {"": a}}}`),
    gets: ['spec.http[0].headers.request.set[""] ISM0514'],
  },
  {
    it: "the same match twice",
    spec: rule(`match: [{uri: {exact: /a}}, {uri: {exact: /a}}], ${to}`),
    gets: ["spec.http[0].match[1] ISM0522"],
  },
  {
    it: "a rule behind one that takes everything",
    spec: `{hosts: [a], http: [{${to}}, {match: [{uri: {exact: /a}}], ${to}}]}`,
    gets: ["spec.http[1] ISM0521"],
  },
  {
    it: "an exponential delay",
    spec: rule(`${to}, fault: {delay: {exponentialDelay: 1s}}`),
    gets: ["spec.http[0].fault.delay.exponentialDelay ISM0516"],
  },
  {
    it: "an abort without status",
    spec: rule(`${to}, fault: {abort: {percentage: {value: 1}}}`),
    gets: ["spec.http[0].fault.abort ISM0516"],
  },
  {
    it: "a percentage that is almost nothing",
    spec: rule(`${to}, fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}`),
    gets: ["spec.http[0].fault.abort.percentage.value ISM0305"],
  },
  {
    it: "a mirror percentage above 100",
    spec: rule(`${to}, mirrorPercentage: {value: 101}`),
    gets: ["spec.http[0].mirrorPercentage.value ISM0305"],
  },
  {
    it: "mirror and mirrors",
    spec: rule(`${to}, mirror: {host: a}, mirrors: [{destination: {host: b}}]`),
    gets: ["spec.http[0].mirrors ISM0518"],
  },
  {
    it: "a CORS method nobody knows",
    spec: rule(`${to}, corsPolicy: {allowMethods: [FETCH]}`),
    gets: ["spec.http[0].corsPolicy.allowMethods[0] ISM0513"],
  },
  {
    it: "an SNI host outside the hosts",
    spec: "{hosts: [a.com], tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: a}}]}]}",
    gets: ["spec.tls[0].match[0].sniHosts[0] ISM0517"],
  },
  {
    it: "a TLS rule without match",
    spec: "{hosts: [a.com], tls: [{route: [{destination: {host: a}}]}]}",
    gets: ["spec.tls[0].match ISM0302"],
  },
  { it: "a delegate", spec: `{http: [{${to}}]}` },
  {
    it: "a delegate with TCP and TLS rules, gateways and a delegate of its own",
    spec: "{gateways: [g], http: [{delegate: {name: a}}], tls: [{match: [{sniHosts: [a.b]}], route: [{destination: {host: a}}]}], tcp: [{route: [{destination: {host: a}}]}]}",
    gets: ["spec.tls ISM0519", "spec.tcp ISM0519", "spec.gateways ISM0519", "spec.http[0].delegate ISM0519"],
  },
  {
    it: "a redirect with a code that tells nobody to go anywhere",
    spec: rule("redirect: {uri: /, redirectCode: 304}"),
    gets: ["spec.http[0].redirect.redirectCode ISM0305"],
  },
  {
    it: "an answer of bytes that are not base64",
    spec: rule("directResponse: {status: 200, body: {bytes: '*'}}"),
    gets: ["spec.http[0].directResponse.body.bytes ISM0520"],
  },
  {
    it: "an answer that is too long",
    spec: rule(`directResponse: {status: 200, body: {string: ${"a".repeat(1024 * 1024 + 1)}}}`),
    gets: ["spec.http[0].directResponse.body ISM0520"],
  },
  {
    it: "a path rewritten by groups",
    spec: rule(`${to}, rewrite: {uriRegexRewrite: {match: "^/(?P<a>[a-z]+)/(.*)", rewrite: '/\\2/\\1/\\0'}}`),
  },
  {
    it: "a path rewritten by a group that is not there",
    spec: rule(`${to}, rewrite: {uriRegexRewrite: {match: "^/(a)", rewrite: '/\\2'}}`),
    gets: ["spec.http[0].rewrite.uriRegexRewrite.rewrite ISM0512"],
  },
  {
    it: "a path rewritten by an escape that is none",
    spec: rule(`${to}, rewrite: {uriRegexRewrite: {match: "^/(a)", rewrite: '/\\n'}}`),
    gets: ["spec.http[0].rewrite.uriRegexRewrite.rewrite ISM0512"],
  },
  {
    it: "a fault without percentages",
    spec: rule(`${to}, fault: {delay: {fixedDelay: 1s}, abort: {httpStatus: 500}}`),
    gets: ["spec.http[0].fault.delay ISM0523", "spec.http[0].fault.abort ISM0523"],
  },
  {
    it: "a host that is set, and operators that are known",
    spec: rule(
      `${to}, headers: {request: {set: {Host: a, x-from: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% of %REQ(x-a?:path):9%, 100%, 5%%"}}}`,
    ),
  },
  {
    it: "a host that is added, one that is removed, and one in an answer",
    spec: rule(`${to}, headers: {request: {add: {host: a}, remove: [":authority"]}, response: {set: {host: a}}}`),
    gets: [
      "spec.http[0].headers.request.add.host ISM0509",
      "spec.http[0].headers.request.remove[0] ISM0509",
      "spec.http[0].headers.response.set.host ISM0509",
    ],
  },
  {
    it: "headers that say where a message ends, of a request line, with a line feed, with an unknown operator",
    spec: rule(`${to}, headers: {request: {set: {Content-Length: "1", ":path": /, x-a: "a\\nb", x-b: "%WHO_KNOWS%"}}}`),
    gets: [
      "spec.http[0].headers.request.set.Content-Length ISM0509",
      'spec.http[0].headers.request.set[":path"] ISM0509',
      "spec.http[0].headers.request.set.x-a ISM0509",
      "spec.http[0].headers.request.set.x-b ISM0509",
    ],
  },
  {
    it: "a TCP rule without route",
    spec: "{hosts: [a.com], tcp: [{match: [{port: 1}]}]}",
    gets: ["spec.tcp[0].route ISM0302"],
  },
];

const rules = (policy: string) => `{host: a.b.global, trafficPolicy: ${policy}}`;
const destinationRules: readonly Row[] = [
  {
    it: "subsets and a policy",
    spec: "{host: '*.global', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {version: v1}}]}",
  },
  { it: "no host", spec: "{subsets: []}", gets: ["spec.host ISM0302"] },
  {
    it: "two subsets of one name",
    spec: "{host: a, subsets: [{name: v1}, {name: v1}]}",
    gets: ["spec.subsets[1].name ISM0607"],
  },
  { it: "an empty policy", spec: rules("{}"), gets: ["spec.trafficPolicy ISM0601"] },
  {
    it: "two hashes",
    spec: rules("{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}"),
    gets: ["spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp ISM0602"],
  },
  {
    it: "a hash and a simple method",
    spec: rules("{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}"),
    gets: ["spec.trafficPolicy.loadBalancer.consistentHash ISM0602"],
  },
  {
    it: "a distribution short of 100",
    spec: rules("{loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {a/b: 90}}]}}}"),
    gets: ["spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to ISM0603"],
  },
  {
    it: "failover to the same region",
    spec: rules("{loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}"),
    gets: ["spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0].to ISM0603"],
  },
  { it: "an empty pool", spec: rules("{connectionPool: {}}"), gets: ["spec.trafficPolicy.connectionPool ISM0604"] },
  {
    it: "a negative pool number",
    spec: rules("{connectionPool: {tcp: {maxConnections: -1}}}"),
    gets: ["spec.trafficPolicy.connectionPool.tcp.maxConnections ISM0305"],
  },
  {
    it: "MUTUAL without files",
    spec: rules("{tls: {mode: MUTUAL}}"),
    gets: ["spec.trafficPolicy.tls.clientCertificate ISM0605", "spec.trafficPolicy.tls.privateKey ISM0605"],
  },
  {
    it: "ISTIO_MUTUAL with a file",
    spec: rules("{tls: {mode: ISTIO_MUTUAL, caCertificates: /a}}"),
    gets: ["spec.trafficPolicy.tls.caCertificates ISM0621"],
  },
  {
    it: "old and new outlier fields",
    spec: rules("{outlierDetection: {consecutiveErrors: 1, consecutive5xxErrors: 1}}"),
    gets: ["spec.trafficPolicy.outlierDetection.consecutiveErrors ISM0606"],
  },
  {
    it: "an ejection percentage above 100",
    spec: rules("{outlierDetection: {maxEjectionPercent: 101}}"),
    gets: ["spec.trafficPolicy.outlierDetection.maxEjectionPercent ISM0305"],
  },
  {
    it: "a port that stands twice",
    spec: rules(
      "{portLevelSettings: [{port: {number: 1}, tls: {mode: DISABLE}}, {port: {number: 1}, tls: {mode: DISABLE}}]}",
    ),
    gets: ["spec.trafficPolicy.portLevelSettings[1].port.number ISM0608"],
  },
];

const server = (rest: string) => `{selector: {istio: ingressgateway}, servers: [{hosts: ["*"], ${rest}}]}`;
const gateways: readonly Row[] = [
  { it: "a plain HTTP server", spec: server("port: {number: 80, name: http, protocol: HTTP}") },
  { it: "no servers", spec: "{selector: {a: b}, servers: []}", gets: ["spec.servers ISM0305"] },
  {
    it: "no selector",
    spec: '{servers: [{hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]}',
    gets: ["spec.selector ISM0722"],
  },
  {
    it: "a short host",
    spec: "{selector: {a: b}, servers: [{hosts: [short], port: {number: 80, name: a, protocol: HTTP}}]}",
    gets: ["spec.servers[0].hosts[0] ISM0306"],
  },
  {
    it: "one port name twice",
    spec: '{selector: {a: b}, servers: [{hosts: ["*"], port: {number: 80, name: a, protocol: HTTP}}, {hosts: ["*"], port: {number: 81, name: a, protocol: HTTP}}]}',
    gets: ["spec.servers[1].port.name ISM0701"],
  },
  {
    it: "HTTPS without tls",
    spec: server("port: {number: 443, name: a, protocol: HTTPS}"),
    gets: ["spec.servers[0] ISM0702"],
  },
  {
    it: "HTTP with a mode",
    spec: server("port: {number: 80, name: a, protocol: HTTP}, tls: {mode: SIMPLE}"),
    gets: ["spec.servers[0].tls.mode ISM0703"],
  },
  {
    it: "HTTP with a redirect",
    spec: server("port: {number: 80, name: a, protocol: HTTP}, tls: {httpsRedirect: true}"),
  },
  {
    it: "TCP with tls",
    spec: server("port: {number: 80, name: a, protocol: TCP}, tls: {mode: SIMPLE}"),
    gets: ["spec.servers[0].tls ISM0703"],
  },
  {
    it: "SIMPLE without certificate",
    spec: server("port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE, privateKey: /k}"),
    gets: ["spec.servers[0].tls.serverCertificate ISM0704"],
  },
  {
    it: "SIMPLE with a credential",
    spec: server("port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: c}"),
  },
  {
    it: "ISTIO_MUTUAL with a file",
    spec: server("port: {number: 443, name: a, protocol: TLS}, tls: {mode: ISTIO_MUTUAL, privateKey: /k}"),
    gets: ["spec.servers[0].tls.privateKey ISM0705"],
  },
  {
    it: "versions the wrong way round",
    spec: server(
      "port: {number: 443, name: a, protocol: TLS}, tls: {mode: PASSTHROUGH, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}",
    ),
    gets: ["spec.servers[0].tls.minProtocolVersion ISM0706"],
  },
  {
    it: "a cipher suite that nobody speaks, hashes that are none, and a version that is over",
    spec: server(
      "port: {number: 443, name: a, protocol: TLS}, tls: {mode: SIMPLE, credentialName: x, cipherSuites: [RC4-MD5, AES128-SHA], verifyCertificateHash: [ab], verifyCertificateSpki: [ab], minProtocolVersion: TLSV1_0}",
    ),
    gets: [
      "spec.servers[0].tls.cipherSuites[0] ISM0707",
      "spec.servers[0].tls.verifyCertificateHash[0] ISM0708",
      "spec.servers[0].tls.verifyCertificateSpki[0] ISM0708",
      "spec.servers[0].tls.minProtocolVersion ISM0723",
    ],
  },
  {
    it: "a server on 15443",
    spec: server("port: {number: 15443, name: a, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}"),
    gets: ["spec.servers[0].port.number ISM0721"],
  },
];

const tables = {
  ServiceEntry: serviceEntries,
  VirtualService: virtualServices,
  DestinationRule: destinationRules,
  Gateway: gateways,
};
for (const [kind, rows] of Object.entries(tables)) {
  describe(kind, () => {
    for (const { it, spec, gets = [] } of rows) {
      test(`${it}: ${gets.join(", ") || "nothing is said"}`, () => expect(said(kind, spec)).toEqual(gets));
    }
  });
}

/** What is said of an annotation of a DestinationRule or Gateway that is good otherwise. */
function saidOf(annotation: string, text: string): string[] {
  const gateway = annotation === "proxy-protocol";
  const object = {
    apiVersion: "networking.istio.io/v1",
    kind: gateway ? "Gateway" : "DestinationRule",
    metadata: { name: "x", annotations: { [`networking.isthmus.dev/${annotation}`]: text } },
    spec: gateway
      ? { selector: { a: "b" }, servers: [{ hosts: ["*"], port: { number: 80, name: "http", protocol: "HTTP" } }] }
      : { host: "a.b.global" },
  };
  const { violations } = readResources(JSON.stringify(object), { cluster: "c" });
  for (const { code } of violations) seen.add(code);
  const at = `metadata.annotations["networking.isthmus.dev/${annotation}"]`;
  return violations.map(({ path, code }) => `${path.replace(at, "…")} ${code}`);
}

const checks: ReadonlyArray<readonly [string, readonly string[]]> = [
  ["http: {path: /healthz}", []],
  ["{http: {path: '/a?b=c', host: a.example.com:80}, port: 8000, interval: 500ms, healthyThreshold: 2}", []],
  ["tcp: {}", []],
  ["grpc: {}", []],
  ["interval: 5s", ["… ISM0609"]],
  ["{http: {path: /}, tcp: {}}", ["….tcp ISM0609"]],
  ["http: {path: healthz}", ["….http.path ISM0303"]],
  ["http: {}", ["….http.path ISM0302"]],
  ["{tcp: {}, interval: often}", ["….interval ISM0309"]],
  ["{tcp: {}, intervall: 5s}", ["….intervall ISM0301"]],
  ["{tcp: {}, unhealthyThreshold: 0}", ["….unhealthyThreshold ISM0305"]],
  ["{tcp: {}, port: 70000}", ["….port ISM0305"]],
  ["'tcp: {'", ["… ISM0303"]],
  ["tcp: {", ["… ISM0101"]],
  ["", ["… ISM0303"]],
  ["tcp: {}\n---\ntcp: {}", ["… ISM0303"]],
];
for (const [text, gets] of checks)
  test(`a health check "${text}": ${gets.join(", ") || "nothing is said"}`, () =>
    expect(saidOf("health-check", text)).toEqual(gets));

test("a Gateway takes PROXY headers always, sometimes, or says so wrongly", () => {
  expect(saidOf("proxy-protocol", "require")).toEqual([]);
  expect(saidOf("proxy-protocol", "accept")).toEqual([]);
  expect(saidOf("proxy-protocol", "yes")).toEqual(["… ISM0304"]);
});

test("a WorkloadEntry is an endpoint on its own", () => {
  expect(said("WorkloadEntry", "{address: 10.0.0.1, labels: {app: a}, serviceAccount: b}")).toEqual([]);
  expect(said("WorkloadEntry", "{address: 10.0.0.1, ports: {8000: 1}}")).toEqual(['spec.ports["8000"] ISM0411']);
});

test("Kubernetes' own kinds are read as far as they are used", () => {
  expect(
    said(
      "Service",
      "{type: ClusterIP, clusterIP: None, selector: {a: b}, ports: [{port: 80, targetPort: web}], internalTrafficPolicy: Cluster}",
    ),
  ).toEqual([]);
  expect(said("Service", "{ports: [{port: 80, targetPort: 70000}]}")).toEqual(["spec.ports[0].targetPort ISM0305"]);
  expect(said("Service", "{type: ExternalName}")).toEqual(["spec.externalName ISM0801"]);
  expect(said("Service", "{ports: [{port: 1}, {port: 2, name: a}, {port: 3, name: a}]}")).toEqual([
    "spec.ports[0].name ISM0802",
    "spec.ports[2].name ISM0802",
  ]);
  const deployment =
    "{selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: x}]}}}";
  expect(said("Deployment", deployment)).toEqual(["spec.selector.matchLabels.a ISM0803"]);
  expect(said("EndpointSlice", "", 'addressType: IPv4\nendpoints: [{addresses: ["::1", 10.0.0.1]}]\n')).toEqual([
    "endpoints[0].addresses[0] ISM0804",
  ]);
  const ofTls = (data: string) => said("Secret", "", `type: kubernetes.io/tls\ndata: ${data}\n`);
  expect(ofTls("{tls.crt: not-base64, tls.key: aGk=}")).toEqual(['data["tls.crt"] ISM0805']);
  expect(ofTls("{tls.crt: aGk=}")).toEqual(['data["tls.key"] ISM0806']);
});

test("every rule of an object is in a row above", () => {
  // What annotations say has rows of its own, in egress.test.ts.
  const ruleCodes = (Object.keys(codes) as Code[]).filter((code) => /^ISM0[4-8]/.test(code) && !/^ISM043/.test(code));
  expect(ruleCodes.filter((code) => !seen.has(code))).toEqual([]);
});
