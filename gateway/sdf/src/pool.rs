//! Sessions, shared by threads.
//!
//! One pool for each library in the process, for good, however often the keys are opened: some
//! libraries allow one open device, and a PIN that was refused must not be tried again.
//!
//! A session serves one call at a time and holds the rights to the keys, which cost a round trip
//! each, so sessions are kept and used again: as many as are needed at once, up to a limit (1 for
//! libraries that cannot do two things at once). When a call fails, all sessions and the device
//! are given up and opened anew, and the call is made once more: a device that was restarted
//! or whose connection broke costs nobody an error. Every call can be repeated without harm.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::abi::{Device, Functions, Session};
use crate::fault::Fault;
use crate::{DecryptForm, DeviceConfig};

static POOLS: Mutex<Vec<Arc<Pool>>> = Mutex::new(Vec::new());

pub(crate) struct Pool {
    library: PathBuf,
    form: DecryptForm,
    functions: Functions,
    pin: Zeroizing<String>,
    most: usize,
    /// Held while a PIN is tried: one at a time, so that a wrong one is tried once.
    granting: Mutex<()>,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// `None` before the first call and after a failure.
    device: Option<Arc<Device>>,
    idle: Vec<Session>,
    /// Sessions in use, of this device or the one given up.
    busy: usize,
    /// Why the right to a key was refused. Stays: repeating a wrong PIN locks keys.
    refused: Option<Fault>,
}

impl Pool {
    /// The pool of a device, the same for the same.
    pub(crate) fn of(config: &DeviceConfig) -> Result<Arc<Self>, Fault> {
        let (form, most) = (config.decrypt, config.sessions.max(1));
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |pool: &&Arc<Self>| {
            (&pool.library, pool.form, &pool.pin, pool.most)
                == (&config.library, form, &config.pin, most)
        };
        if let Some(pool) = pools.iter().find(same) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Self {
            library: config.library.clone(),
            form,
            functions: Functions::load(&config.library, form)?,
            pin: config.pin.clone(),
            most,
            granting: Mutex::default(),
            state: Mutex::default(),
            returned: Condvar::new(),
        });
        pools.push(Arc::clone(&pool));
        Ok(pool)
    }

    /// Does something in a session, with the right to a private key if it needs one; if the device
    /// fails, once more in a new session.
    pub(crate) fn with<T>(
        &self,
        right: Option<u32>,
        act: impl Fn(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match self.once(right, &act) {
            Err(Fault::Refused(why)) => Err(Fault::Refused(why)),
            Err(_) => self.once(right, &act),
            done => done,
        }
    }

    fn once<T>(
        &self,
        right: Option<u32>,
        act: impl Fn(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut lease = Lease { pool: self, session: Some(self.take()?) };
        let done = match &mut lease.session {
            Some(session) => self.grant(session, right).and_then(|()| act(session)),
            None => Err(Fault::Wrong("没有会话")),
        };
        if done.is_err() {
            // Closed before it counts as returned: a new device is opened only after that.
            lease.session = None;
            let mut state = self.state();
            state.device = None;
            state.idle.clear();
        }
        done
    }

    fn take(&self) -> Result<Session, Fault> {
        let mut state = self.state();
        loop {
            if let Some(why) = &state.refused {
                return Err(Fault::Refused(why.to_string()));
            }
            if let Some(session) = state.idle.pop() {
                state.busy += 1;
                return Ok(session);
            }
            let device = match &state.device {
                Some(device) if state.busy < self.most => Arc::clone(device),
                // The device given up is closed first: some libraries allow one at a time.
                None if state.busy == 0 => {
                    let device = Arc::new(Device::open(self.functions)?);
                    state.device = Some(Arc::clone(&device));
                    device
                }
                _ => {
                    let waited = self.returned.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            let opened = device.session();
            if opened.is_ok() {
                state.busy += 1;
            } else {
                state.device = None;
                state.idle.clear();
            }
            return opened;
        }
    }

    /// Gets a session the right to a private key, unless it has it.
    fn grant(&self, session: &mut Session, right: Option<u32>) -> Result<(), Fault> {
        let Some(index) = right.filter(|index| !session.may_use(*index)) else { return Ok(()) };
        let _one = self.granting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &self.state().refused {
            return Err(Fault::Refused(why.to_string()));
        }
        let granted = session.grant(index, self.pin.as_bytes());
        match granted {
            Err(why) if why.refuses() => {
                let told = Fault::Refused(why.to_string());
                self.state().refused = Some(why);
                Err(told)
            }
            other => other,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in use. Comes back whatever happens.
struct Lease<'a> {
    pool: &'a Pool,
    session: Option<Session>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.busy -= 1;
        // Of a device given up meanwhile, it is closed instead.
        let current =
            |session: &Session| state.device.as_ref().is_some_and(|device| session.is_of(device));
        if let Some(session) = self.session.take().filter(current) {
            state.idle.push(session);
        }
        drop(state);
        // All of them: who waits for the old device to close, and who waits for a session.
        self.pool.returned.notify_all();
    }
}
