package smtpserver

import (
	"context"
	"testing"
	"testing/synctest"

	"mittente/internal/smtp/smtptest"
)

// What the wire says by itself, whoever decides. The door has more of them.
func TestTranscripts(t *testing.T) {
	for _, tr := range smtptest.Read(t, "testdata") {
		tr.Run(t, func(t *testing.T, tr smtptest.Transcript) (*smtptest.Client, func()) {
			t.Helper()
			cfg := testConfig()
			if tr.Has("tls") {
				cfg.TLS = smtptest.ServerTLS(t, "mx.example.org")
			}
			if tr.Has("strict") {
				cfg.BareNewlines, cfg.LongLines = NewlinesRefuse, LinesRefuse
			}
			if tr.Has("big") {
				cfg.MaxMessageBytes = 1 << 20
			}
			if tr.Has("two") {
				cfg.MaxPerConnection = 2
			}
			ctx, stop := context.WithCancel(t.Context())
			v := testServer(t, cfg, &fake{})
			connect, done := open(ctx, v)
			t.Cleanup(func() {
				if n := len(v.sessions) + len(v.clients); n != 0 {
					t.Errorf("%d sessions and clients are left", n)
				}
			})
			return connect("192.0.2.7"), func() {
				stop()
				synctest.Wait()
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				default: // the session goes on
				}
			}
		})
	}
}
