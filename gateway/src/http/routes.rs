//! The one table of routes. The router, the authorisation and the test of `openapi.json` are all made from it.

use http::Method;

use crate::auth::Scope;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Any good token.
    Token,
    /// A token with this scope.
    Scope(Scope),
    /// A token with this scope, or an agent's.
    ScopeOrHost(Scope),
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table below says what each does")]
pub enum Action {
    Health,
    Ready,
    Metrics,
    Openapi,
    CreateCall,
    ListCalls,
    ReadCall,
    CancelCall,
    ReadFunction,
    AppendInputs,
    ReadEvents,
    Run,
    PutBlob,
    ReadBlob,
    RemoveBlob,
    SetSecret,
    ListSecrets,
    DeleteSecret,
    PutEnvironment,
    ReadEnvironment,
    ListHosts,
    DrainHost,
    UndrainHost,
    ConnectHost,
    JoinHost,
    RenewHost,
    ExpelHost,
    CreateJoinString,
    CreateToken,
    ListTokens,
    RevokeToken,
}

impl Action {
    /// Whether it takes as long as its client likes; then it ends with the credential that it is done by.
    pub fn is_long(self) -> bool {
        use Action::*;
        let bodies = matches!(self, PutBlob | ReadBlob | ReadFunction);
        bodies || matches!(self, CreateCall | AppendInputs | ReadEvents | Run)
    }
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, `{id}` standing for a call or a token, `{host}` for a host's name, `{sha256}` for a blob, `{name}` for a secret.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it does.
    pub action: Action,
}

const fn route(method: Method, path: &'static str, access: Access, action: Action) -> Route {
    Route { method, path, access, action }
}

const SUBMIT: Access = Access::Scope(Scope::Submit);
const READ: Access = Access::Scope(Scope::Read);
const CANCEL: Access = Access::Scope(Scope::Cancel);
const METRICS: Access = Access::Scope(Scope::Metrics);
const ADMIN: Access = Access::Scope(Scope::Admin);
const JOIN: Access = Access::Scope(Scope::Join);
const HOST: Access = Access::Scope(Scope::Host);
const PUT_BLOB: Access = Access::ScopeOrHost(Scope::Submit);
const GET_BLOB: Access = Access::ScopeOrHost(Scope::Read);
const BUILDS: Access = Access::ScopeOrHost(Scope::Host);

/// Every route there is.
#[rustfmt::skip] // A table is read by its columns.
pub static ROUTES: &[Route] = &[
    route(Method::POST,   "/v1/calls",               SUBMIT,        Action::CreateCall),
    route(Method::GET,    "/v1/calls",               READ,          Action::ListCalls),
    route(Method::GET,    "/v1/calls/{id}",          READ,          Action::ReadCall),
    route(Method::DELETE, "/v1/calls/{id}",          CANCEL,        Action::CancelCall),
    route(Method::POST,   "/v1/calls/{id}/inputs",   SUBMIT,        Action::AppendInputs),
    route(Method::GET,    "/v1/calls/{id}/events",   READ,          Action::ReadEvents),
    route(Method::GET,    "/v1/calls/{id}/function", READ,          Action::ReadFunction),
    route(Method::POST,   "/v1/run",                 SUBMIT,        Action::Run),
    route(Method::PUT,    "/v1/blobs/{sha256}",      PUT_BLOB,      Action::PutBlob),
    route(Method::GET,    "/v1/blobs/{sha256}",      GET_BLOB,      Action::ReadBlob),
    route(Method::DELETE, "/v1/blobs/{sha256}",      SUBMIT,        Action::RemoveBlob),
    route(Method::PUT,    "/v1/secrets/{name}",      SUBMIT,        Action::SetSecret),
    route(Method::GET,    "/v1/secrets",             READ,          Action::ListSecrets),
    route(Method::DELETE, "/v1/secrets/{name}",      SUBMIT,        Action::DeleteSecret),
    route(Method::PUT,    "/v1/environments/{key}",  BUILDS,        Action::PutEnvironment),
    route(Method::GET,    "/v1/environments/{key}",  BUILDS,        Action::ReadEnvironment),
    route(Method::GET,    "/v1/hosts",               READ,          Action::ListHosts),
    route(Method::POST,   "/v1/hosts/{host}/drain",  ADMIN,         Action::DrainHost),
    route(Method::DELETE, "/v1/hosts/{host}/drain",  ADMIN,         Action::UndrainHost),
    route(Method::POST,   "/v1/hosts/connect",       HOST,          Action::ConnectHost),
    route(Method::POST,   "/v1/hosts/join",          JOIN,          Action::JoinHost),
    route(Method::POST,   "/v1/hosts/renew",         HOST,          Action::RenewHost),
    route(Method::DELETE, "/v1/hosts/{host}",        ADMIN,         Action::ExpelHost),
    route(Method::POST,   "/v1/join-strings",        ADMIN,         Action::CreateJoinString),
    route(Method::POST,   "/v1/tokens",              ADMIN,         Action::CreateToken),
    route(Method::GET,    "/v1/tokens",              ADMIN,         Action::ListTokens),
    route(Method::DELETE, "/v1/tokens/{id}",         ADMIN,         Action::RevokeToken),
    route(Method::GET,    "/healthz",                Access::Open,  Action::Health),
    route(Method::GET,    "/readyz",                 Access::Open,  Action::Ready),
    route(Method::GET,    "/metrics",                METRICS,       Action::Metrics),
    route(Method::GET,    "/openapi.json",           Access::Token, Action::Openapi),
];

/// The route with this path and method; `HEAD` is answered as `GET`, without its body.
pub fn find(path: &str, method: &Method) -> Option<&'static Route> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.iter().find(|route| route.path == path && route.method == *method)
}

/// The methods a path takes, as the `Allow` header lists them.
pub fn allowed(path: &str) -> String {
    let methods: Vec<&str> = ROUTES
        .iter()
        .filter(|route| route.path == path)
        .map(|route| route.method.as_str())
        .collect();
    methods.join(", ")
}
