//! What a client sends to get a token.

use api::Fault;
use identity::login::{DomainRef, Proof, Ref, Wish};
use serde::Deserialize;

/// The whole body.
#[derive(Deserialize)]
pub(crate) struct Body {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    identity: Ways,
    scope: Option<Scope>,
}

#[derive(Deserialize)]
struct Ways {
    methods: Vec<String>,
    password: Option<PasswordWay>,
    token: Option<TokenWay>,
    application_credential: Option<CredentialWay>,
}

#[derive(Deserialize)]
struct PasswordWay {
    user: UserWithPassword,
}

#[derive(Deserialize)]
struct UserWithPassword {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Domain>,
    password: String,
}

#[derive(Deserialize)]
struct TokenWay {
    id: String,
}

#[derive(Deserialize)]
struct CredentialWay {
    id: Option<String>,
    name: Option<String>,
    user: Option<Named>,
    secret: String,
}

/// Something that is named by its id, or by its name within a domain.
#[derive(Deserialize)]
struct Named {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Domain>,
}

#[derive(Deserialize)]
struct Domain {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scope {
    Word(String),
    Places(Box<Places>),
}

#[derive(Deserialize)]
struct Places {
    project: Option<Named>,
    domain: Option<Domain>,
    system: Option<serde_json::Value>,
    unscoped: Option<serde_json::Value>,
    #[serde(rename = "OS-TRUST:trust")]
    trust: Option<serde_json::Value>,
}

fn missing(what: &str) -> Fault {
    Fault::bad_request(format!("Expecting to find {what} in the request body."))
}

impl Body {
    /// As identity understands it.
    pub(crate) fn read(self) -> Result<(Vec<Proof>, Wish), Fault> {
        let Auth { identity: mut ways, scope } = self.auth;
        if ways.methods.is_empty() {
            return Err(missing("a method in 'methods'"));
        }
        let mut methods = std::mem::take(&mut ways.methods);
        methods.dedup();
        let mut proofs = Vec::new();
        for method in methods {
            proofs.push(match method.as_str() {
                "password" => password(ways.password.take().ok_or_else(|| missing("'password'"))?.user)?,
                "token" => Proof::Token(ways.token.take().ok_or_else(|| missing("'token'"))?.id),
                "application_credential" => {
                    credential(ways.application_credential.take().ok_or_else(|| missing("'application_credential'"))?)?
                }
                _ => return Err(Fault::unauthorized("Attempted to authenticate with an unsupported method.")),
            });
        }
        Ok((proofs, wish(scope)?))
    }
}

fn password(user: UserWithPassword) -> Result<Proof, Fault> {
    let UserWithPassword { id, name, domain, password } = user;
    if password.len() > identity::password::PASSWORD_BYTES_MAX {
        return Err(Fault::bad_request("Invalid input for field 'password': it is too long"));
    }
    Ok(Proof::Password(reference(Named { id, name, domain }, "user")?, password))
}

fn credential(way: CredentialWay) -> Result<Proof, Fault> {
    let CredentialWay { id, name, user, secret } = way;
    let credential = match (id, name, user) {
        (Some(id), _, _) => Ref::Id(id),
        (None, Some(name), Some(user)) => Ref::Name(name, reference(user, "user")?),
        (None, _, _) => return Err(missing("the id, or the name and the user, of the application credential")),
    };
    if secret.len() > identity::password::PASSWORD_BYTES_MAX {
        return Err(Fault::bad_request("Invalid input for field 'secret': it is too long"));
    }
    Ok(Proof::ApplicationCredential(credential, secret))
}

fn reference(named: Named, what: &str) -> Result<Ref<DomainRef>, Fault> {
    match (named.id, named.name, named.domain) {
        (Some(id), _, _) => Ok(Ref::Id(id)),
        (None, Some(name), Some(domain)) => Ok(Ref::Name(name, domain_ref(domain)?)),
        (None, Some(_), None) => Err(missing(&format!("the domain of the {what}"))),
        (None, None, _) => Err(missing(&format!("the id or name of the {what}"))),
    }
}

fn domain_ref(domain: Domain) -> Result<DomainRef, Fault> {
    match (domain.id, domain.name) {
        (Some(id), _) => Ok(DomainRef::Id(id)),
        (None, Some(name)) => Ok(DomainRef::Name(name)),
        (None, None) => Err(missing("the id or name of the domain")),
    }
}

fn wish(scope: Option<Scope>) -> Result<Wish, Fault> {
    let places = match scope {
        None => return Ok(Wish::Default),
        Some(Scope::Word(word)) if word == "unscoped" => return Ok(Wish::Unscoped),
        Some(Scope::Word(_)) => return Err(Fault::bad_request("The scope is an object, or the word 'unscoped'.")),
        Some(Scope::Places(places)) => places,
    };
    if places.trust.is_some() {
        return Err(Fault::forbidden("Trusts are not offered here: use an application credential."));
    }
    match (places.project, places.domain, places.system, places.unscoped) {
        (Some(project), None, None, None) => Ok(Wish::Project(reference(project, "project")?)),
        (None, Some(domain), None, None) => Ok(Wish::Domain(domain_ref(domain)?)),
        (None, None, Some(system), None) if system["all"] == true => Ok(Wish::System),
        (None, None, Some(_), None) => Err(Fault::bad_request("The only system scope is {\"all\": true}.")),
        (None, None, None, Some(_)) => Ok(Wish::Unscoped),
        (None, None, None, None) => Ok(Wish::Default),
        (_, _, _, _) => Err(Fault::bad_request("The scope names more than one place.")),
    }
}
