// An OpenID provider for tests: panva's oidc-provider, a certified one, with
// the clients of this file. Their access tokens are signed JSON web tokens.
//
//   node provider.mjs MODULES DIR ISSUER PORT MTLSPORT
//
// ISSUER is http://127.0.0.1:PORT. DIR has client.pub (the key of the client
// "signed"), server.crt and server.key, and ca.crt, which signs the
// certificate of the client "mutual". MODULES is where npm has put the
// packages.
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [, , modules, dir, issuer, port, mtlsPort] = process.argv
const resolve = (name) => pathToFileURL(createRequire(`${modules}/`).resolve(name)).href
const { Provider } = await import(resolve('oidc-provider'))
const { createLocalJWKSet, jwtVerify } = await import(resolve('jose'))
const read = (name) => readFileSync(`${dir}/${name}`, 'utf8')

const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })
const about = { use: 'sig', alg: 'RS256', kid: 'k1' }
const jwks = { keys: [{ ...pair.privateKey.export({ format: 'jwk' }), ...about }] }
const trusted = createLocalJWKSet({ keys: [{ ...pair.publicKey.export({ format: 'jwk' }), ...about }] })

const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
const client = (id, more) => ({
  client_id: id, redirect_uris: [], response_types: [], grant_types: ['client_credentials'], ...more,
})
const provider = new Provider(issuer, {
  jwks,
  clients: [
    client('basic', { client_secret: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' }),
    client('posted', { client_secret: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', token_endpoint_auth_method: 'client_secret_post' }),
    client('elsewhere', { client_secret: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' }),
    client('signed', {
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [{ ...createPublicKey(read('client.pub')).export({ format: 'jwk' }), use: 'sig', kid: 'client' }] },
    }),
    client('mutual', { token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'host.example.com' }),
    client('exchange', { token_endpoint_auth_method: 'none', grant_types: [exchange] }),
  ],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'none'],
  extraTokenClaims: () => ({ policy: 'readwrite' }), // what MinIO grants
  ttl: { ClientCredentials: 3600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.req.socket.getPeerX509Certificate?.()?.toString(),
      certificateAuthorized: (ctx) => ctx.req.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' && ctx.req.socket.getPeerX509Certificate().checkHost(expected) === expected,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:minio',
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource, of) => ({
        scope: '', accessTokenFormat: 'jwt', accessTokenTTL: 3600, jwt: { sign: { alg: 'RS256' } },
        audience: of.clientId === 'elsewhere' ? 'somebody-else' : 'byclaim',
      }),
    },
  },
})

// The provider has no token exchange of its own; this is how it is given one.
provider.registerGrantType(exchange, async (ctx) => {
  const { subject_token: shown, subject_token_type: type } = ctx.oidc.params
  if (type !== 'urn:ietf:params:oauth:token-type:jwt') {
    ctx.status = 400
    ctx.body = { error: 'invalid_request', error_description: 'subject_token_type is not known' }
    return
  }
  let subject
  try {
    subject = (await jwtVerify(shown, trusted, { issuer })).payload
  } catch (e) {
    ctx.status = 400
    ctx.body = { error: 'invalid_grant', error_description: `the subject token is not accepted: ${e.code}` }
    return
  }
  const token = new provider.ClientCredentials({ client: ctx.oidc.client, extra: { sub: subject.sub } })
  token.resourceServer = new provider.ResourceServer('urn:minio', {
    scope: '', audience: 'byclaim', accessTokenFormat: 'jwt', accessTokenTTL: 3600, jwt: { sign: { alg: 'RS256' } },
  })
  ctx.body = {
    access_token: await token.save(), issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer', expires_in: token.expiration,
  }
}, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'scope', 'resource'])

provider.on('server_error', (ctx, err) => console.error(err))
createServer({ cert: read('server.crt'), key: read('server.key'), ca: read('ca.crt'), requestCert: true, rejectUnauthorized: false }, provider.callback())
  .listen(Number(mtlsPort), '127.0.0.1')
provider.listen(Number(port), '127.0.0.1')
