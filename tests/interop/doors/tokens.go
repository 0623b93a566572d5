package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// Signed by golang-jwt.
type token struct {
	Algorithm string
	// Signs it: PKCS #8, or the bytes of a secret.
	Key string
	// Names a key of the set, or nothing.
	KeyID string `json:"key_id"`
	// Its claims; exp and nbf are seconds from now.
	Claims map[string]any
}

func (t token) signed() (string, error) {
	claims := jwt.MapClaims{}
	for name, value := range t.Claims {
		if seconds, is := value.(float64); is && (name == "exp" || name == "nbf") {
			value = time.Now().Unix() + int64(seconds)
		}
		claims[name] = value
	}
	one := jwt.NewWithClaims(jwt.GetSigningMethod(t.Algorithm), claims)
	if t.KeyID != "" {
		one.Header["kid"] = t.KeyID
	}
	if t.Algorithm == "none" {
		return one.SignedString(jwt.UnsafeAllowNoneSignatureType)
	}
	bytes, err := os.ReadFile(t.Key)
	if err != nil {
		return "", err
	}
	if t.Algorithm[:2] == "HS" {
		return one.SignedString(bytes)
	}
	block, _ := pem.Decode(bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", err
	}
	return one.SignedString(key)
}

const (
	rsaBits     = 2048
	secretBytes = 32
)

// A key of each kind, NAME.key and NAME.pem, one that is in no set, two secrets, and go-jose's set of the others.
func writeKeys(folder string) error {
	var set jose.JSONWebKeySet
	rsaKey, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return err
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	keys := map[string]crypto.Signer{"rsa": rsaKey, "p256": p256, "p384": p384, "ed25519": ed, "stranger": stranger}
	for name, key := range keys {
		if err := writePair(filepath.Join(folder, name), key); err != nil {
			return err
		}
		if name != "stranger" {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: name, Use: "sig"})
		}
	}
	for _, name := range []string{"secret", "secret_of_set"} {
		bytes := make([]byte, secretBytes)
		if _, err := rand.Read(bytes); err != nil {
			return err
		}
		text := []byte(hex.EncodeToString(bytes))
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			return err
		}
		if name == "secret_of_set" {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: text, KeyID: name, Use: "sig"})
		}
	}
	text, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "jwks.json"), text, 0o600)
}

func writePair(path string, key crypto.Signer) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.WriteFile(path+".key", text, 0o600); err != nil {
		return err
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return os.WriteFile(path+".pem", text, 0o600)
}
