package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/sender"
)

// userView is an SMTP+ user as commands print it.
type userView struct {
	Username   string               `json:"username"`
	Password   string               `json:"password,omitempty"`
	List       int64                `json:"list"`
	Account    int64                `json:"account"`
	Active     bool                 `json:"active"`
	Effective  bool                 `json:"effective"` // active, and with a verified entry
	Priority   int                  `json:"priority"`
	RequireTLS bool                 `json:"require_tls"`
	Note       string               `json:"note,omitempty"`
	Networks   []netip.Prefix       `json:"networks"`
	Quota      int64                `json:"quota_per_hour"`
	Speed      int64                `json:"speed_per_hour"`
	Passwords  []account.Credential `json:"passwords,omitempty"` // of show only
	Domains    []string             `json:"domains"`
	Senders    []string             `json:"senders"`
	Entries    []sender.Entry       `json:"entries"`
	CreatedAt  string               `json:"created_at"`
	PasswordAt string               `json:"password_at"`
	LastUsedAt string               `json:"last_used_at,omitempty"`
	Warnings   []string             `json:"warnings"`

	verified                bool // has a verified entry
	created, password, used time.Time
}

// viewUser reads what belongs to a user.
func (h *house) viewUser(tx *db.Tx, u account.User) (userView, error) {
	v := userView{
		Username: u.Name, List: u.ListNumber, Account: u.AccountNumber, Active: u.Active,
		Priority: int(u.Priority), RequireTLS: u.RequireTLS, Note: u.Note,
		Networks: append([]netip.Prefix{}, u.Networks...), Quota: u.QuotaPerHour, Speed: u.SpeedPerHour,
		Domains: []string{}, Senders: []string{}, Warnings: []string{},
		CreatedAt: stamp(u.CreatedAt), PasswordAt: stamp(u.PasswordAt), LastUsedAt: stamp(u.LastUsedAt),
		created: u.CreatedAt, password: u.PasswordAt, used: u.LastUsedAt,
	}
	var err error
	if v.Entries, err = h.senders.Entries(tx, u.ID); err != nil {
		return v, err
	}
	for _, e := range v.Entries {
		v.verified = v.verified || e.State == sender.StateVerified
		if e.Kind == sender.KindAddress {
			v.Senders = append(v.Senders, e.Text)
		} else {
			v.Domains = append(v.Domains, e.Text)
		}
	}
	v.Effective = v.Active && v.verified
	if v.Active && !v.verified {
		v.Warnings = append(v.Warnings, u.Name+" is active, but none of its senders is verified: it can send nothing")
	}
	return v, nil
}

// state is one word for a table.
func (v userView) state() string {
	switch {
	case !v.Active:
		return "inactive"
	case !v.verified:
		return "unverified"
	default:
		return "active"
	}
}

func (v userView) print(w io.Writer) {
	fields(w,
		"username", v.Username, "password", v.Password, "list", strconv.FormatInt(v.List, 10),
		"account", strconv.FormatInt(v.Account, 10), "state", v.state(), "priority", strconv.Itoa(v.Priority),
		"TLS", map[bool]string{true: "required", false: "optional"}[v.RequireTLS],
		"made", when(v.created), "password of", when(v.password), "last used", when(v.used), "note", oneLine(v.Note, 2000),
		"used from", strings.Join(convert(v.Networks, netip.Prefix.String), " "), "quota", perHour(v.Quota), "speed", perHour(v.Speed),
	)
	for _, p := range v.Passwords {
		fmt.Fprintf(w, "password     of %s, last used %s%s%s\n", when(p.CreatedAt), orText(when(p.LastUsedAt), "never"),
			prefixed(", ends ", when(p.ExpiresAt)), map[bool]string{false: ", can't do SCRAM: generate a new one"}[p.SCRAM])
	}
	for _, e := range v.Entries {
		through := ""
		if e.Kind == sender.KindAddress && e.Through != "" {
			through = " through " + string(e.Through)
		}
		fmt.Fprintf(w, "sends from   %s  %s%s\n", e.Text, e.State, through)
	}
	for _, warning := range v.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
}

func perHour(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d recipients an hour", n)
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// nextStep says what is missing before a new user can send.
func (v userView) nextStep() string {
	var pending []string
	for _, e := range v.Entries {
		if e.State != sender.StateVerified {
			pending = append(pending, e.Text)
		}
	}
	switch {
	case len(v.Entries) == 0:
		return fmt.Sprintf("Next: mittente user edit %s --domain D", v.Username)
	case !v.verified:
		return fmt.Sprintf("Next: verify %s, then mittente user edit %s --active", strings.Join(pending, ", "), v.Username)
	case !v.Active:
		return fmt.Sprintf("Next: mittente user edit %s --active", v.Username)
	default:
		return fmt.Sprintf("It can send now: mittente send --user %s --from A --to B", v.Username)
	}
}
