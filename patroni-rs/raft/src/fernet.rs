//! The encryption of PySyncObj: Fernet tokens (`cryptography`), with a key that is derived from the password.
//!
//! A port of PySyncObj 0.3.17 `encryptor.py` (MIT, Filipp Ozinov) and of the Fernet specification: 0x80, time, vector,
//! AES-128-CBC, HMAC-SHA256, all as URL-safe base64.

use base64::engine::general_purpose::URL_SAFE;
use base64::Engine;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::symm::{decrypt, encrypt, Cipher};

/// PySyncObj's salt is the same everywhere.
const SALT: [u8; 16] =
    [0x15, 0x25, 0x71, 0xe6, 0xbb, 0x02, 0xa6, 0xf8, 0x13, 0x71, 0x90, 0xcf, 0x36, 0x2b, 0x1e, 0xeb];
const ROUNDS: usize = 100_000;
const VERSION: u8 = 0x80;
const MAC: usize = 32;

/// A key. Its password cannot be got back from it, and it is not printed.
pub struct Fernet {
    sign: PKey<Private>,
    encrypt: [u8; 16],
}

impl std::fmt::Debug for Fernet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fernet")
    }
}

impl Fernet {
    /// The key of a password. Takes some 50 ms, as it is meant to.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn of_password(password: &str) -> Result<Fernet, ErrorStack> {
        let mut key = [0; 32];
        openssl::pkcs5::pbkdf2_hmac(password.as_bytes(), &SALT, ROUNDS, MessageDigest::sha256(), &mut key)?;
        Fernet::new(key)
    }

    fn new(key: [u8; 32]) -> Result<Fernet, ErrorStack> {
        let mut encrypt = [0; 16];
        encrypt.copy_from_slice(&key[16..]);
        Ok(Fernet { sign: PKey::hmac(&key[..16])?, encrypt })
    }

    fn mac(&self, bytes: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        Signer::new(MessageDigest::sha256(), &self.sign)?.sign_oneshot_to_vec(bytes)
    }

    /// A token with that time in it (PySyncObj: whole seconds of a monotonic clock).
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn encrypt(&self, data: &[u8], time: u64) -> Result<Vec<u8>, ErrorStack> {
        let mut vector = [0; 16];
        openssl::rand::rand_bytes(&mut vector)?;
        let mut token = vec![VERSION];
        token.extend(time.to_be_bytes());
        token.extend(vector);
        token.extend(encrypt(Cipher::aes_128_cbc(), &self.encrypt, Some(&vector), data)?);
        token.extend(self.mac(&token)?);
        Ok(URL_SAFE.encode(token).into_bytes())
    }

    /// What is in a token, and its time; None: it was not made with this key, or was changed.
    pub fn decrypt(&self, token: &[u8]) -> Option<(Vec<u8>, u64)> {
        let token = URL_SAFE.decode(token).ok()?;
        let (signed, mac) = token.split_at_checked(token.len().checked_sub(MAC)?)?;
        let right = self.mac(signed).ok()?;
        if !openssl::memcmp::eq(&right, mac) {
            return None;
        }
        let (version, rest) = signed.split_first()?;
        let (time, rest) = rest.split_at_checked(8)?;
        let (vector, data) = rest.split_at_checked(16)?;
        if *version != VERSION {
            return None;
        }
        let time = u64::from_be_bytes(time.try_into().ok()?);
        Some((decrypt(Cipher::aes_128_cbc(), &self.encrypt, Some(vector), data).ok()?, time))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Made by `cryptography` with PySyncObj's `getEncryptor('secret').encrypt_at_time(b'hello', 123)`.
    const TOKEN: &str = "gAAAAAAAAAB7QNIzCqVsw67H9XnckUa8EZgRjvTUauNsxt6SFjk0iIzZD0d03hExl8AN4oU_56fn1Q9mv-VHLsSF_6VLIB3r5Q==";

    #[test]
    fn tokens_of_python() {
        let key = Fernet::of_password("secret").unwrap();
        assert_eq!(key.decrypt(TOKEN.as_bytes()), Some((b"hello".to_vec(), 123)));
        let ours = key.encrypt(b"hello", 7).unwrap();
        assert_eq!(key.decrypt(&ours), Some((b"hello".to_vec(), 7)));
    }

    #[test]
    fn others_are_refused() {
        let key = Fernet::of_password("other").unwrap();
        assert_eq!(key.decrypt(TOKEN.as_bytes()), None);
        let ours = key.encrypt(b"hello", 7).unwrap();
        for at in 0..ours.len() {
            let mut token = ours.clone();
            token[at] = if token[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.decrypt(&token), None, "{at}");
        }
        for short in [&b""[..], b"gAAA", b"\xff\xff", &ours[..20]] {
            assert_eq!(key.decrypt(short), None);
        }
    }
}
