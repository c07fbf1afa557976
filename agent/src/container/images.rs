//! Which images are on this host, by what names, with which Python. The engine is asked on a timer, and when a call wants
//! one that is not in the list; a call with a known image costs no question.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_wire::message::{Image, Mode};
use tokio::sync::watch;

use crate::engine::{Engine, EngineError, EngineImage};
use crate::settings::Pull;
use crate::status::Board;

use super::ClaimError;
use super::rooms::say;

/// How often the engine is asked.
pub const REFRESH: Duration = Duration::from_secs(5);

/// A cheap handle to the list of images.
#[derive(Debug, Clone)]
pub struct Images {
    engine: Engine,
    pull: Pull,
    board: Board,
    list: Arc<Mutex<Vec<EngineImage>>>,
}

impl Images {
    /// Nothing known yet.
    pub fn new(engine: Engine, pull: Pull, board: Board) -> Images {
        Images { engine, pull, board, list: Arc::default() }
    }

    /// Asks the engine, and tells the gateway.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        let list = self.engine.images().await?;
        let told = list
            .iter()
            .map(|image| Image { name: image.name.clone(), python: image.python.clone() })
            .collect();
        *self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = list;
        self.board.images(told);
        Ok(())
    }

    /// What is there, as last seen.
    pub fn list(&self) -> Vec<EngineImage> {
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The image a call means, pulled if it is not there and may be, or why the call cannot have it.
    pub async fn resolve(
        &self,
        name: &str,
        mode: Mode,
        python: Option<&str>,
        waiting: &watch::Sender<Option<String>>,
    ) -> Result<EngineImage, ClaimError> {
        let image = match self.known(name) {
            Some(image) => image,
            None => self.find(name, waiting).await?,
        };
        if mode == Mode::Python
            && let (Some(wants), Some(has)) = (python, &image.python)
            && wants != has
        {
            return Err(self.wrong_python(name, has, wants));
        }
        Ok(image)
    }

    /// The error of an image whose Python is another one, naming those that fit.
    pub fn wrong_python(&self, image: &str, has: &str, wants: &str) -> ClaimError {
        let fitting =
            self.list().into_iter().filter(|image| image.python.as_deref() == Some(wants));
        ClaimError::Python {
            image: image.into(),
            has: has.into(),
            wants: wants.into(),
            fitting: fitting.map(|image| image.name).collect(),
        }
    }

    fn known(&self, name: &str) -> Option<EngineImage> {
        let list = self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let full = with_tag(name);
        list.iter().find(|image| image.name == full).cloned()
    }

    async fn find(
        &self,
        name: &str,
        waiting: &watch::Sender<Option<String>>,
    ) -> Result<EngineImage, ClaimError> {
        match self.engine.image(name).await {
            Ok(image) => return Ok(image),
            Err(EngineError::NotFound { .. }) => {}
            // A name the engine cannot read is a name of no image.
            Err(EngineError::Refused { status: 400, message, .. }) => {
                return Err(self.no_such_image(name, message));
            }
            Err(error) => return Err(ClaimError::Engine(Box::new(error))),
        }
        if self.pull == Pull::Never {
            return Err(self.no_such_image(name, "this host may not pull images".into()));
        }
        say(waiting, format!("pulling image {name}"));
        let pulled =
            self.engine.pull(name, |done| say(waiting, format!("pulling image {name} {done} %")));
        if let Err(error) = pulled.await {
            let why = match error {
                EngineError::Refused { message, .. } => message,
                EngineError::NotFound { what } => what,
                other => other.to_string(),
            };
            return Err(self.no_such_image(name, format!("it could not be pulled: {why}")));
        }
        let found = self.engine.image(name).await;
        if let Err(error) = self.refresh().await {
            tracing::warn!(error = %error, "images not listed");
        }
        found.map_err(|error| ClaimError::Engine(Box::new(error)))
    }

    fn no_such_image(&self, name: &str, why: String) -> ClaimError {
        let there = self.list().into_iter().map(|image| image.name).collect();
        ClaimError::NoSuchImage { image: name.into(), there, why }
    }
}

/// The name as the engine lists it: without a tag it is `latest`.
fn with_tag(name: &str) -> String {
    match name.rsplit('/').next() {
        Some(last) if !last.contains([':', '@']) => format!("{name}:latest"),
        _ => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_the_latest() {
        assert_eq!(with_tag("a/b"), "a/b:latest");
        assert_eq!(with_tag("host:5000/b"), "host:5000/b:latest");
        assert_eq!(with_tag("a/b:1"), "a/b:1");
        assert_eq!(with_tag("a@sha256:00"), "a@sha256:00");
    }
}
