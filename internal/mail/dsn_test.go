package mail_test

import (
	"testing"

	"mittente/internal/mail"
)

func TestNotify(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "never": "NEVER", "DELAY,failure": "FAILURE,DELAY", "SUCCESS,SUCCESS": "SUCCESS",
		"SUCCESS,FAILURE,DELAY": "SUCCESS,FAILURE,DELAY",
	} {
		n, err := mail.ParseNotify(text)
		if err != nil || n.String() != want {
			t.Errorf("ParseNotify(%q) = %q, %v; want %q", text, n, err, want)
		}
	}
	for _, text := range []string{",", "NEVER,DELAY", "ALWAYS", "SUCCESS,", " SUCCESS"} {
		if n, err := mail.ParseNotify(text); err == nil {
			t.Errorf("ParseNotify(%q) = %q, want an error", text, n)
		}
	}
}

func TestNotifyDefaultIsFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n                       mail.Notify
		success, failure, delay bool
	}{
		{0, false, true, false},
		{mail.NotifyNever, false, false, false},
		{mail.NotifyDelay, false, false, true},
		{mail.NotifySuccess | mail.NotifyFailure, true, true, false},
	} {
		if c.n.OnSuccess() != c.success || c.n.OnFailure() != c.failure || c.n.OnDelay() != c.delay {
			t.Errorf("%q: success %v, failure %v, delay %v", c.n, c.n.OnSuccess(), c.n.OnFailure(), c.n.OnDelay())
		}
	}
}

func TestReturn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]mail.Return{"": "", "full": mail.ReturnFull, "HDRS": mail.ReturnHeader} {
		if r, err := mail.ParseReturn(text); err != nil || r != want {
			t.Errorf("ParseReturn(%q) = %q, %v", text, r, err)
		}
	}
	if _, err := mail.ParseReturn("BODY"); err == nil {
		t.Error("RET=BODY was taken")
	}
}
