package account

import (
	"crypto/rand"
	"crypto/sha256"
)

const (
	// alphabet has no two characters that are taken for one another: 0 O o and
	// 1 l I are left out. 56 symbols carry 5.8 bits each.
	alphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"

	// Lengths of generated passwords: 162 and 185 bits. The length tells a
	// one-time password from the lasting one, so that how many hashes a check
	// costs follows from what the client sent, never from what is stored.
	passwordLength = 28
	oneTimeLength  = 32

	saltSize = 32
	hashSize = sha256.Size

	maxHashed = 256 // octets; no password is longer, so the rest of a long attempt need not be read
)

// generatePassword returns length characters, each drawn uniformly.
func generatePassword(length int) string {
	// Bytes from the last, incomplete round of the alphabet are thrown away:
	// a remainder would make some characters likelier.
	const rounds = 256 / len(alphabet) * len(alphabet)
	out := make([]byte, 0, length)
	var random [64]byte
	for {
		_, _ = rand.Read(random[:]) // never fails: the program ends when the system has no randomness
		for _, b := range random {
			if int(b) >= rounds {
				continue
			}
			out = append(out, alphabet[int(b)%len(alphabet)])
			if len(out) == length {
				return string(out)
			}
		}
	}
}

// hashPassword is the verifier of PLAIN and LOGIN. A fast hash is right here: a
// generated password can't be guessed however fast the guesses are, and a slow
// hash would only be a way to overload the relay.
func hashPassword(salt [saltSize]byte, password string) [hashSize]byte {
	var buf [saltSize + maxHashed]byte
	n := copy(buf[:], salt[:])
	n += copy(buf[n:], password)
	return sha256.Sum256(buf[:n])
}
