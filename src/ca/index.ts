// Certificates: the authority and its files, the CSR service (both ends), who calls it, whom to believe, and keeping one
// certificate fresh. Absent on purpose: TLS connections (ads and proxy make them), revocation lists (certificates live a
// day), and any way to have another identity than one's own.
export { Authority, type AuthoritySettings, type Issued } from "./authority.ts";
export { type Callers, type CallerVerdict, createCallers, type Evidence } from "./callers.ts";
export { type Certificate, decodeCertificate, decodeCertificates, dnsNamesOf, ipsOf } from "./certificate.ts";
export { type CertificateAnswer, certificateClient, type FetchCertificate } from "./client.ts";
export { decodeCsr, encodeCsr } from "./csr.ts";
export { type KeyPair, type KeyType, keyTypes, makeKeyPair, makeKeyPairInBackground } from "./keys.ts";
export { createIntermediate, createRoot, writeCacerts } from "./make-cacerts.ts";
export {
  Cacerts,
  type CacertsFiles,
  type CacertsName,
  type CacertsProblem,
  type CacertsRules,
  type CheckedCacerts,
  cacertsNames,
  checkCacerts,
  demoOrganization,
  loadCacerts,
  readCacertsFiles,
} from "./roots.ts";
export { type CsrLimits, certificateService } from "./server.ts";
export { startServerCertificate } from "./server-cert.ts";
export {
  anyVerifier,
  createTokenReviewer,
  type ReviewToken,
  type TokenReviewOptions,
  type TokenReviewStatus,
} from "./token-review.ts";
export {
  createTokenVerifier,
  decodeTokenKey,
  decodeTokenKeys,
  jwksOf,
  makeTokenKey,
  mintToken,
  startTokenVerifier,
  type TokenKey,
  type TokenVerdict,
  type TokenVerifier,
  tokenAudience,
} from "./tokens.ts";
export {
  bundleOf,
  decodeTrustBundle,
  type LeafRules,
  leafIdentity,
  type PeerProblem,
  type PeerVerdict,
  type TrustBundle,
  verifyChain,
  verifyPeer,
} from "./trust.ts";
export { type CacertsSource, startCacerts } from "./watch-roots.ts";
export {
  type CheckedCertificate,
  type HeldCertificate,
  readHeldCertificate,
  WorkloadCertificate,
} from "./workload-certificate.ts";
export { type RenewalSettings, startWorkloadCerts, type WorkloadCerts } from "./workload-certs.ts";
