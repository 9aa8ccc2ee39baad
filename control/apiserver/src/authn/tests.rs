//! Tokens, certificates, anonymous, front proxy, impersonation.

use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::impersonation::impersonate;
use super::token_request::token_request;
use super::tokens::{Claims, TokenIssuerConfig};
use super::*;
use crate::admission::fake_reader::FakeReader;
use crate::authz;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

struct World {
    fake: Arc<FakeReader>,
    now_s: Arc<AtomicI64>,
    tokens: Arc<TokenIssuer>,
}

impl World {
    fn new() -> Self {
        let now_s = Arc::new(AtomicI64::new(1_800_000_000));
        let fake = FakeReader::new();
        fake.put("", "serviceaccounts", json!({"metadata": {"name": "bot", "namespace": "a", "uid": "sa-uid"}}));
        fake.put("", "nodes", json!({"metadata": {"name": "n1", "uid": "node-uid"}}));
        fake.put(
            "",
            "pods",
            json!({"metadata": {"name": "p", "namespace": "a", "uid": "pod-uid"},
                   "spec": {"serviceAccountName": "bot", "nodeName": "n1"}}),
        );
        let tokens = Arc::new(issuer(&clock(&now_s), Vec::new()));
        Self { fake, now_s, tokens }
    }

    fn pass(&self, seconds: i64) {
        self.now_s.fetch_add(seconds, Ordering::SeqCst);
    }

    fn request(&self, body: &Value) -> Result<Value, Status> {
        token_request(&self.tokens, self.fake.as_ref(), &UserInfo::new("x", &[]), "a", "bot", body)
    }

    fn token(&self, body: &Value) -> String {
        self.request(body).unwrap()["status"]["token"].as_str().unwrap().to_owned()
    }

    fn authenticator(
        &self,
        client_ca: Vec<CertificateDer<'static>>,
        request_header: Option<RequestHeaderConfig>,
    ) -> Authenticator {
        let config = AuthnConfig {
            client_ca,
            request_header,
            tokens: self.tokens.clone(),
            anonymous: true,
            clock: clock(&self.now_s),
        };
        Authenticator::new(config, self.fake.clone()).unwrap()
    }

    fn verify(&self, token: &str) -> Result<UserInfo, String> {
        self.tokens.verify(token, &[], self.fake.as_ref()).map(|v| v.user).map_err(|e| e.to_string())
    }
}

fn clock(now_s: &Arc<AtomicI64>) -> Clock {
    let now_s = now_s.clone();
    Arc::new(move || jiff::Timestamp::from_second(now_s.load(Ordering::SeqCst)).unwrap())
}

fn issuer(clock: &Clock, verification_keys_pem: Vec<String>) -> TokenIssuer {
    TokenIssuer::new(TokenIssuerConfig {
        issuer: ISSUER.to_owned(),
        api_audiences: Vec::new(),
        signing_key_pem: KeyPair::generate().unwrap().serialize_pem(),
        verification_keys_pem,
        clock: clock.clone(),
    })
    .unwrap()
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn bound_to(kind: &str, name: &str, expiration_s: i64) -> Value {
    json!({"spec": {"expirationSeconds": expiration_s, "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}}})
}

#[test]
fn a_pod_bound_token_says_what_upstreams_says() {
    let world = World::new();
    let answer = world.request(&bound_to("Pod", "p", 3607)).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let claims = claims(token);
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], json!([ISSUER]));
    assert_eq!(claims["sub"], "system:serviceaccount:a:bot");
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "a", "node": {"name": "n1", "uid": "node-uid"}, "pod": {"name": "p", "uid": "pod-uid"},
               "serviceaccount": {"name": "bot", "uid": "sa-uid"}, "warnafter": 1_800_003_607_i64})
    );
    // Signed for a year, told as an hour.
    assert_eq!(claims["exp"], 1_800_000_000_i64 + 31_536_000);
    assert_eq!(answer["status"]["expirationTimestamp"], "2027-01-15T09:00:07Z");
    let user = world.verify(token).unwrap();
    assert_eq!(user.name, "system:serviceaccount:a:bot");
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
}

#[test]
fn bad_tokens_are_refused() {
    let check = |body: Value, spoil: &dyn Fn(&World, String) -> String, expect: &str| {
        let world = World::new();
        let token = world.token(&body);
        world.verify(&token).unwrap();
        let token = spoil(&world, token);
        let error = world.verify(&token).unwrap_err();
        assert!(error.contains(expect), "wanted {expect:?}, got {error:?}");
    };
    let hour = json!({"spec": {"expirationSeconds": 3600}});
    check(
        hour.clone(),
        &|w, t| {
            w.pass(3661);
            t
        },
        "has expired",
    );
    check(
        hour.clone(),
        &|w, t| {
            w.pass(-61);
            t
        },
        "not valid yet",
    );
    check(
        hour.clone(),
        &|w, t| {
            w.fake.remove("", "serviceaccounts", "a", "bot");
            t
        },
        "service account a/bot not found",
    );
    check(
        hour.clone(),
        &|w, t| {
            w.fake.put("", "serviceaccounts", json!({"metadata": {"name": "bot", "namespace": "a", "uid": "another"}}));
            t
        },
        "service account UID (another) does not match",
    );
    check(
        bound_to("Pod", "p", 3607),
        &|w, t| {
            w.fake.remove("", "pods", "a", "p");
            t
        },
        "invalidated: bound pod \"p\"",
    );
    check(
        bound_to("Node", "n1", 600),
        &|w, t| {
            w.fake.remove("", "nodes", "", "n1");
            t
        },
        "invalidated: bound node \"n1\"",
    );
    check(
        bound_to("Pod", "p", 3607),
        &|w, t| {
            w.fake.put("", "pods", json!({"metadata": {"name": "p", "namespace": "a", "uid": "pod-uid", "deletionTimestamp": "2027-01-15T07:58:00Z"}}));
            t
        },
        "invalidated",
    );
    check(
        hour.clone(),
        &|_, t| {
            let mut t = t;
            let c = if t.pop() == Some('A') { 'E' } else { 'A' };
            t.push(c);
            t
        },
        "signature is invalid",
    );
    check(hour.clone(), &|_, t| t.replacen('.', "", 1), "no JWT");
    check(hour.clone(), &|_, _| "a".repeat(20_000), "too long");
    check(
        hour.clone(),
        &|_, t| {
            // `alg: none` over the same claims.
            let mut parts = t.split('.');
            let (_, payload) = (parts.next(), parts.next().unwrap());
            format!("eyJhbGciOiJub25lIn0.{payload}.")
        },
        "no JWT",
    );
    check(
        hour,
        &|w, _| {
            let other = issuer(&clock(&w.now_s), Vec::new());
            other
                .sign(&Claims {
                    aud: vec![ISSUER.to_owned()],
                    exp: i64::MAX,
                    sub: "system:serviceaccount:a:bot".to_owned(),
                    ..Claims::default()
                })
                .unwrap()
        },
        "signature is invalid",
    );
}

#[test]
fn a_token_of_a_pod_outlives_its_node() {
    let world = World::new();
    let token = world.token(&bound_to("Pod", "p", 3607));
    world.fake.remove("", "nodes", "", "n1");
    world.verify(&token).unwrap();
}

#[test]
fn audiences_are_kept_apart() {
    let world = World::new();
    let token = world.token(&json!({"spec": {"audiences": ["vault", "other"]}}));
    let error = world.verify(&token).unwrap_err();
    assert!(error.contains("vault"), "{error}");
    let asked = ["vault".to_owned(), "nobody".to_owned()];
    let verified = world.tokens.verify(&token, &asked, world.fake.as_ref()).unwrap();
    assert_eq!(verified.audiences, ["vault"]);
    // A foreign audience is never extended to a year.
    let mut body = bound_to("Pod", "p", 3607);
    body["spec"]["audiences"] = json!(["vault"]);
    assert_eq!(claims(&world.token(&body))["exp"], 1_800_003_607_i64);
}

#[test]
fn token_requests_are_validated() {
    let world = World::new();
    let check = |body: Value, code: u16, words: &str| {
        let error = world.request(&body).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "wanted {words:?}, got {:?}", error.message);
    };
    check(json!({"spec": {"expirationSeconds": 599}}), 422, "may not specify a duration less than 10 minutes");
    check(
        json!({"spec": {"expirationSeconds": 1_i64 << 33}}),
        422,
        "may not specify a duration larger than 2^32 seconds",
    );
    check(json!({"metadata": {"name": "other"}}), 422, "must match the service account name if specified");
    check(bound_to("Pod", "gone", 600), 404, "pods \"gone\" not found");
    check(bound_to("Deployment", "x", 600), 400, "cannot bind token to object of type");
    let mut wrong = bound_to("Pod", "p", 600);
    wrong["spec"]["boundObjectRef"]["uid"] = "stale".into();
    check(wrong, 409, "the UID in the bound object reference (stale) does not match");
    world.fake.put(
        "",
        "pods",
        json!({"metadata": {"name": "q", "namespace": "a"}, "spec": {"serviceAccountName": "default"}}),
    );
    check(bound_to("Pod", "q", 600), 400, "running with different serviceaccount name.");
    let missing =
        token_request(&world.tokens, world.fake.as_ref(), &UserInfo::new("x", &[]), "a", "nobody", &json!({}));
    assert_eq!(missing.unwrap_err().message, "serviceaccounts \"nobody\" not found");
}

#[test]
fn old_keys_go_on_verifying_and_rsa_is_read() {
    const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub");
    let world = World::new();
    let old_key = KeyPair::generate().unwrap();
    let config = |key: &KeyPair, others: Vec<String>| TokenIssuerConfig {
        issuer: ISSUER.to_owned(),
        api_audiences: Vec::new(),
        signing_key_pem: key.serialize_pem(),
        verification_keys_pem: others,
        clock: clock(&world.now_s),
    };
    let old = TokenIssuer::new(config(&old_key, Vec::new())).unwrap();
    let body = json!({});
    let answer = token_request(&old, world.fake.as_ref(), &UserInfo::new("x", &[]), "a", "bot", &body).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let others = vec![old_key.public_key_pem(), RSA_PUBLIC.to_owned()];
    let new = TokenIssuer::new(config(&KeyPair::generate().unwrap(), others)).unwrap();
    new.verify(token, &[], world.fake.as_ref()).unwrap();
    let keys = new.jwks();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 3);
    assert_eq!(keys["keys"][2]["kty"], "RSA");
    assert_eq!(keys["keys"][2]["e"], "AQAB");
    let discovery = new.openid_configuration();
    assert_eq!(discovery["jwks_uri"], format!("{ISSUER}/openid/v1/jwks"));
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
}

#[test]
fn an_rs256_token_is_verified() {
    const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub");
    const TOKEN: &str = include_str!("testdata/rs256.jwt");
    let world = World::new();
    let tokens = issuer(&clock(&world.now_s), vec![RSA_PUBLIC.to_owned()]);
    let verified = tokens.verify(TOKEN.trim(), &[], world.fake.as_ref()).unwrap();
    assert_eq!(verified.user.name, "system:serviceaccount:a:bot");
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

fn date(unix_s: i64) -> rcgen::CertificateParams {
    let mut params = CertificateParams::default();
    let at = |s: i64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(u64::try_from(s).unwrap());
    params.not_before = at(unix_s - 3600);
    params.not_after = at(unix_s + 3600);
    params
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = date(1_800_000_000);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().clone();
    Ca { issuer: Issuer::new(params, key), der }
}

fn client_cert(ca: &Ca, cn: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
    let mut params = date(1_800_000_000);
    params.distinguished_name = rcgen::DistinguishedName::new();
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    if !cn.is_empty() {
        params.distinguished_name.push(DnType::CommonName, cn);
    }
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &ca.issuer).unwrap().der().clone()
}

fn parts(headers: &[(&str, &str)]) -> http::request::Parts {
    let mut request = http::Request::builder().uri("/api");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn certificates_become_users() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let world = World::new();
    let (ours, theirs) = (ca(), ca());
    let authenticator = world.authenticator(vec![ours.der.clone()], None);
    let ask =
        |cert: &CertificateDer<'static>| authenticator.authenticate(&parts(&[]), Some(std::slice::from_ref(cert)));
    let good = client_cert(&ours, "jane", &["dev"], ClientAuth);
    let user = ask(&good).unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        ("jane", &["dev".to_owned(), "system:authenticated".to_owned()][..])
    );
    let refused = [
        ("of another CA", client_cert(&theirs, "jane", &[], ClientAuth)),
        ("for servers", client_cert(&ours, "jane", &[], ServerAuth)),
        ("without a name", client_cert(&ours, "", &["dev"], ClientAuth)),
        ("garbage", CertificateDer::from(vec![1, 2, 3])),
    ];
    for (what, cert) in refused {
        assert_eq!(ask(&cert).unwrap_err().code, 401, "{what}");
    }
    world.pass(3601);
    assert_eq!(ask(&good).unwrap_err().code, 401, "expired, though seen before");
}

#[test]
fn the_order_of_credentials() {
    let world = World::new();
    let ours = ca();
    let authenticator = world.authenticator(vec![ours.der.clone()], None);
    let token = world.token(&json!({}));
    let bearer = format!("Bearer {token}");
    let name = |headers: &[(&str, &str)], certs: &[CertificateDer<'static>]| {
        authenticator.authenticate(&parts(headers), Some(certs)).map(|u| u.name.clone()).map_err(|e| e.code)
    };
    let jane = client_cert(&ours, "jane", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = client_cert(&ca(), "jane", &[], ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(name(&[], &[]), Ok("system:anonymous".to_owned()));
    assert_eq!(name(&[("authorization", &bearer)], &[]), Ok("system:serviceaccount:a:bot".to_owned()));
    assert_eq!(name(&[("authorization", "Bearer nonsense")], &[]), Err(401));
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&token);
    let offered = format!("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}");
    assert_eq!(name(&[("sec-websocket-protocol", &offered)], &[]), Ok("system:serviceaccount:a:bot".to_owned()));
    assert_eq!(name(&[("authorization", "Basic eDp5")], &[]), Ok("system:anonymous".to_owned()));
    assert_eq!(name(&[("authorization", &bearer)], std::slice::from_ref(&jane)), Ok("jane".to_owned()));
    assert_eq!(
        name(&[("authorization", &bearer)], std::slice::from_ref(&stranger)),
        Ok("system:serviceaccount:a:bot".to_owned())
    );
    assert_eq!(name(&[], &[stranger]), Err(401));
    assert_eq!(name(&[("authorization", "Bearer nonsense")], &[jane]), Ok("jane".to_owned()));
}

#[test]
fn only_the_front_proxy_tells_users_in_headers() {
    let world = World::new();
    let (clients, front) = (ca(), ca());
    let config =
        RequestHeaderConfig { ca: vec![front.der.clone()], allowed_names: vec!["front-proxy-client".to_owned()] };
    let authenticator = world.authenticator(vec![clients.der.clone()], Some(config));
    let headers = [
        ("x-remote-user", "jane"),
        ("x-remote-group", "dev"),
        ("x-remote-group", "ops"),
        ("x-remote-extra-acme.com%2fproject", "p1"),
    ];
    let ask = |cert: CertificateDer<'static>| authenticator.authenticate(&parts(&headers), Some(&[cert]));
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let user = ask(client_cert(&front, "front-proxy-client", &[], client.clone())).unwrap();
    assert_eq!(user.name, "jane");
    assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
    assert_eq!(user.extra["acme.com/project"], ["p1"]);
    assert_eq!(
        ask(client_cert(&clients, "front-proxy-client", &[], client.clone())).unwrap().name,
        "front-proxy-client"
    );
    assert_eq!(ask(client_cert(&front, "somebody", &[], client)).unwrap_err().code, 401);
}

#[test]
fn impersonation_is_asked_for() {
    let world = World::new();
    let chain = authz::Chain::new(world.fake.clone());
    let rbac = "rbac.authorization.k8s.io";
    world.fake.put(
        rbac,
        "clusterroles",
        json!({"metadata": {"name": "i"}, "rules": [
        {"apiGroups": [""], "resources": ["users", "serviceaccounts"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scope"], "verbs": ["impersonate"]}]}),
    );
    world.fake.put(
        rbac,
        "clusterrolebindings",
        json!({"metadata": {"name": "i"},
        "roleRef": {"kind": "ClusterRole", "name": "i"}, "subjects": [{"kind": "User", "name": "boss"}]}),
    );
    let boss = Arc::new(UserInfo::new("boss", &[]));
    let ask = |user: &Arc<UserInfo>, headers: &[(&str, &str)]| {
        let headers: HeaderMap = parts(headers).headers;
        impersonate(&headers, user, &chain)
    };
    assert_eq!(ask(&boss, &[]).unwrap().name, "boss");
    let jane =
        ask(&boss, &[("impersonate-user", "jane"), ("impersonate-group", "dev"), ("impersonate-extra-scope", "x")])
            .unwrap();
    assert_eq!((jane.name.as_str(), jane.groups.join(" ").as_str()), ("jane", "dev system:authenticated"));
    assert_eq!(jane.extra["scope"], ["x"]);
    let bot = ask(&boss, &[("impersonate-user", "system:serviceaccount:a:bot")]).unwrap();
    assert_eq!(bot.groups.join(" "), "system:serviceaccounts system:serviceaccounts:a system:authenticated");
    let refused = ask(&boss, &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]).unwrap_err();
    assert_eq!(
        refused.message,
        "groups \"system:masters\" is forbidden: User \"boss\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope"
    );
    assert_eq!(ask(&boss, &[("impersonate-group", "dev")]).unwrap_err().code, 400);
    let jane = Arc::new(UserInfo::new("jane", &[]));
    assert_eq!(ask(&jane, &[("impersonate-user", "boss")]).unwrap_err().code, 403);
}

#[test]
fn reviews_answer() {
    let world = World::new();
    let authenticator = world.authenticator(Vec::new(), None);
    let token = world.token(&json!({}));
    let good = reviews::token_review(&authenticator, &json!({"spec": {"token": token}})).unwrap();
    assert_eq!(good["status"]["authenticated"], true);
    assert_eq!(good["status"]["user"]["username"], "system:serviceaccount:a:bot");
    assert_eq!(good["status"]["audiences"], json!([ISSUER]));
    let bad = reviews::token_review(&authenticator, &json!({"spec": {"token": "x"}})).unwrap();
    assert!(bad["status"].get("authenticated").is_none());
    assert!(bad["status"]["error"].as_str().is_some());
    let me = reviews::self_subject_review(&UserInfo::new("jane", &["dev"]), &json!({})).unwrap();
    assert_eq!(me["status"]["userInfo"], json!({"username": "jane", "groups": ["dev", "system:authenticated"]}));
}
