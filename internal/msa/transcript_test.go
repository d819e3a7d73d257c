package msa

import (
	"testing"

	"mittente/internal/smtp/smtptest"
)

// The transcripts in testdata are the door's table of replies.
func TestTranscripts(t *testing.T) {
	for _, tr := range smtptest.Read(t, "testdata") {
		tr.Run(t, func(t *testing.T, tr smtptest.Transcript) (*smtptest.Client, func()) {
			t.Helper()
			cfg := testConfig()
			if tr.Has("tls") {
				cfg.Wire.TLS = smtptest.ServerTLS(t, "mx.example.org")
			}
			if tr.Has("refuse-plaintext") {
				cfg.PlaintextAuth = PlaintextRefuse
			}
			return dial(t.Context(), testDoor(t, cfg, &fakeGate{})), func() {}
		})
	}
}
