package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mittente/internal/account"
	"mittente/internal/db"
	"mittente/internal/event"
	"mittente/internal/mail"
	"mittente/internal/sender"
)

type userCmd struct {
	Add      userAddCmd      `cmd:"" help:"Make an SMTP+ user; prints its name and password, once."`
	Edit     userEditCmd     `cmd:"" help:"Change a user; what is not named stays."`
	Password userPasswordCmd `cmd:"" help:"Generate a new password, printed once; the old one ends at once, or after --overlap."`
	Rm       userRmCmd       `cmd:"" help:"Remove a user; mail it has handed in is still delivered."`
	Ls       userLsCmd       `cmd:"" help:"List the users."`
	Show     userShowCmd     `cmd:"" help:"Show a user and what it may send from."`
}

// errInactive is requirement S13, in the words of an operator.
func errInactive(name string) error {
	return fmt.Errorf("%w: %s can't be active without a verified domain or sender: verify one first "+
		"(mittente domain records D, then mittente domain verify D), or leave --active out", errConflict, name)
}

type userAddCmd struct {
	List       number   `default:"1"                                                                          help:"The list it belongs to."`
	Domain     []string `help:"A domain it may send from, or *.domain for all below; may be repeated."        placeholder:"D"`
	Sender     []string `help:"An address it may send from; may be repeated."                                 placeholder:"A"`
	Priority   int      `default:"3"                                                                          help:"What mail programs show: 1 (highest) to 5."`
	Note       string   `help:"For you; nobody else ever sees it."                                            placeholder:"T"`
	RequireTLS bool     `default:"true"                                                                       help:"Refuse the password before STARTTLS; --require-tls=false for devices that know no TLS." name:"require-tls"`
	Network    []string `help:"A network it may be used from, such as 192.0.2.0/24; may be repeated. Default: from anywhere." placeholder:"NET"`
	Quota      int64    `help:"Recipients an hour; more are refused until there is room again. 0: no limit." placeholder:"N"`
	Speed      int64    `help:"Recipients an hour that leave; more wait, and none is refused. 0: no limit." placeholder:"N"`
	Active     bool     `help:"May send at once; wants a verified domain or sender among those given."`
}

// Run makes the user and all its entries, or nothing.
func (c userAddCmd) Run(ctx context.Context, a *app) error {
	wanted, err := parseWanted("", c.Domain, c.Sender)
	if err != nil {
		return err
	}
	networks, err := parseNetworks(c.Network)
	if err != nil {
		return err
	}
	return a.with(ctx, writes, func(h *house) error {
		request, err := h.prepare(ctx, int64(c.List), wanted)
		if err != nil {
			return err
		}
		request.Asking.By = h.actor
		var v userView
		err = h.change(ctx, event.Audit{Action: "user.add"}, func(tx *db.Tx, e *event.Audit) error {
			u, password, err := h.accounts.AddUser(tx, account.NewUser{
				List: int64(c.List), Active: c.Active, Priority: mail.Priority(c.Priority), Note: c.Note, RequireTLS: c.RequireTLS,
				Networks: networks, QuotaPerHour: c.Quota, SpeedPerHour: c.Speed,
			})
			if err != nil {
				return err
			}
			e.Account, e.Object = u.Account, u.Name
			if err := h.senders.Authorise(tx, u, request); err != nil {
				return err
			}
			if v, err = h.viewUser(tx, u); err != nil {
				return err
			}
			if u.Active && !v.verified {
				return errInactive("a user")
			}
			v.Note, v.Password = "", password
			return nil
		})
		if err != nil {
			return err
		}
		v.Warnings = append(v.Warnings, request.Warnings()...)
		return emitOne(a, v, func(w io.Writer) {
			v.print(w)
			fmt.Fprintln(w, "\nThe password is shown this once. "+a.hint(v.nextStep()))
		})
	})
}

// parseWanted reads --domain and --sender, or --remove-domain and
// --remove-sender; each may hold a list.
func parseWanted(prefix string, domains, addresses []string) ([]sender.Wanted, error) {
	wanted, err := sender.ParseDomains(domains)
	if err != nil {
		return nil, fmt.Errorf("--%sdomain: %w", prefix, err)
	}
	flag := "--" + prefix + "sender"
	for _, item := range addresses {
		if !strings.Contains(item, "@") {
			return nil, fmt.Errorf("%w: %s: %.80q is not an email address", errUsage, flag, item)
		}
	}
	more, err := sender.ParseAddresses(addresses)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return append(wanted, more...), nil
}

// parseNetworks reads networks and single addresses; "any" is none, from anywhere.
func parseNetworks(texts []string) ([]netip.Prefix, error) {
	networks := []netip.Prefix{}
	for _, text := range texts {
		if text == "any" && len(texts) == 1 {
			return networks, nil
		}
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			networks = append(networks, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --network: %.60q is no network such as 192.0.2.0/24, no address, and not \"any\"", errUsage, text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// prepare makes the keys of new domains, outside of any transaction.
func (h *house) prepare(ctx context.Context, list int64, wanted []sender.Wanted) (*sender.Request, error) {
	var l account.List
	err := h.db.View(ctx, func(tx *db.Tx) (err error) {
		l, err = h.accounts.List(tx, list)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h.senders.Prepare(ctx, l.Account, wanted)
}

type userEditCmd struct {
	Name         string   `arg:""                                                         help:"Its name, sACCOUNT_N."`
	List         *number  `help:"Move it to this list of the same account."               placeholder:"N"`
	Domain       []string `help:"One more domain it may send from; may be repeated."      placeholder:"D"`
	Sender       []string `help:"One more address it may send from; may be repeated."     placeholder:"A"`
	RemoveDomain []string `help:"A domain it may no longer send from; may be repeated."   placeholder:"D"`
	RemoveSender []string `help:"An address it may no longer send from; may be repeated." placeholder:"A"`
	Priority     *int     `help:"What mail programs show: 1 (highest) to 5."              placeholder:"1-5"`
	Note         *string  `help:"For you; nobody else ever sees it."                      placeholder:"T"`
	RequireTLS   *bool    `help:"Refuse the password before STARTTLS, or not (=false)."   name:"require-tls"`
	Network      []string `help:"A network it may be used from instead of those so far; may be repeated; any: from anywhere." placeholder:"NET"`
	Quota        *int64   `help:"Recipients an hour; more are refused until there is room again. 0: no limit." placeholder:"N"`
	Speed        *int64   `help:"Recipients an hour that leave; more wait, and none is refused. 0: no limit." placeholder:"N"`
	Active       *bool    `help:"May send, or not (=false)."`
}

// Run changes a user, all or nothing.
func (c userEditCmd) Run(ctx context.Context, a *app) error {
	add, err := parseWanted("", c.Domain, c.Sender)
	if err != nil {
		return err
	}
	remove, err := parseWanted("remove-", c.RemoveDomain, c.RemoveSender)
	if err != nil {
		return err
	}
	return a.with(ctx, reads, func(h *house) error {
		u, err := h.user(ctx, c.Name)
		if err != nil {
			return err
		}
		request, err := h.senders.Prepare(ctx, u.Account, add)
		if err != nil {
			return err
		}
		request.Asking.By = h.actor
		var v userView
		err = h.change(ctx, event.Audit{Action: "user.edit"}, func(tx *db.Tx, e *event.Audit) error {
			v, err = c.edit(tx, h, request, remove)
			e.Account, e.Object = u.Account, u.Name
			return err
		})
		if err != nil {
			return err
		}
		v.Note, v.Warnings = "", append(v.Warnings, request.Warnings()...)
		return emitOne(a, v, v.print)
	})
}

func (c userEditCmd) edit(tx *db.Tx, h *house, request *sender.Request, remove []sender.Wanted) (userView, error) {
	change := account.Edit{
		List: (*int64)(c.List), Active: c.Active, Note: c.Note, RequireTLS: c.RequireTLS,
		QuotaPerHour: c.Quota, SpeedPerHour: c.Speed,
	}
	if len(c.Network) > 0 {
		networks, err := parseNetworks(c.Network)
		if err != nil {
			return userView{}, err
		}
		change.Networks = &networks
	}
	if c.Priority != nil {
		p := mail.Priority(*c.Priority)
		change.Priority = &p
	}
	u, err := h.accounts.EditUser(tx, c.Name, change)
	if err != nil {
		return userView{}, err
	}
	if err := h.senders.Authorise(tx, u, request); err != nil {
		return userView{}, err
	}
	if err := h.senders.Deauthorise(tx, u, remove); err != nil {
		return userView{}, err
	}
	v, err := h.viewUser(tx, u)
	if err == nil && c.Active != nil && *c.Active && !v.verified {
		return v, errInactive(u.Name)
	}
	return v, err
}

// user reads a user by name.
func (h *house) user(ctx context.Context, name string) (u account.User, err error) {
	err = h.db.View(ctx, func(tx *db.Tx) error {
		u, err = h.accounts.UserByName(tx, name)
		return err
	})
	return u, err
}

type userPasswordCmd struct {
	Name    string   `arg:"" help:"Its name, sACCOUNT_N."`
	Overlap Duration `default:"0s" help:"How long the old one works beside it, at most 30d." placeholder:"D"`
}

// Run generates a new password.
func (c userPasswordCmd) Run(ctx context.Context, a *app) error {
	overlap, err := c.Overlap.Parse()
	if err != nil {
		return fmt.Errorf("%w: --overlap: %w", errUsage, err)
	}
	return a.with(ctx, reads, func(h *house) error {
		v := struct {
			Username     string `json:"username"`
			Password     string `json:"password"`
			OldExpiresAt string `json:"old_expires_at"`
		}{Username: c.Name}
		ends := time.Now().Add(overlap)
		v.OldExpiresAt = stamp(ends)
		err := h.change(ctx, event.Audit{Action: "user.password", Object: c.Name}, func(tx *db.Tx, e *event.Audit) error {
			u, err := h.accounts.UserByName(tx, c.Name)
			if err != nil {
				return err
			}
			e.Account = u.Account
			v.Password, err = h.accounts.SetPassword(tx, c.Name, overlap)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, func(w io.Writer) {
			fields(w, "username", v.Username, "password", v.Password)
			if overlap == 0 {
				fmt.Fprintln(w, "\nThe password is shown this once. The old one ended now.")
				return
			}
			fmt.Fprintf(w, "\nThe password is shown this once. The old one works until %s; a new password before then ends it too.\n", when(ends))
		})
	})
}

type userRmCmd struct {
	Name string `arg:"" help:"Its name, sACCOUNT_N."`
}

// Run removes a user.
func (c userRmCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		err := h.change(ctx, event.Audit{Action: "user.rm", Object: c.Name}, func(tx *db.Tx, e *event.Audit) error {
			u, err := h.accounts.UserByName(tx, c.Name)
			if err != nil {
				return err
			}
			e.Account = u.Account
			return h.accounts.RemoveUser(tx, c.Name)
		})
		if err != nil {
			return err
		}
		v := struct {
			Username string `json:"username"`
			Removed  bool   `json:"removed"`
		}{c.Name, true}
		return emitOne(a, v, func(w io.Writer) { fmt.Fprintf(w, "%s is removed; its name is never used again.\n", c.Name) })
	})
}

type userLsCmd struct {
	List    number `help:"Only those of this list."    placeholder:"N"`
	Account number `help:"Only those of this account." placeholder:"N"`
}

// Run lists users.
func (c userLsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		views := []userView{}
		err := h.db.View(ctx, func(tx *db.Tx) error {
			users, err := h.accounts.Users(tx, account.Filter{Account: int64(c.Account), List: int64(c.List)})
			if err != nil {
				return err
			}
			for _, u := range users {
				v, err := h.viewUser(tx, u)
				if err != nil {
					return err
				}
				views = append(views, v)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return emit(a, views,
			column[userView]{"name", func(v userView) string { return v.Username }},
			column[userView]{"list", func(v userView) string { return strconv.FormatInt(v.List, 10) }},
			column[userView]{"state", userView.state},
			column[userView]{"priority", func(v userView) string { return strconv.Itoa(v.Priority) }},
			column[userView]{"tls", func(v userView) string { return map[bool]string{true: "required", false: "optional"}[v.RequireTLS] }},
			column[userView]{"last used", func(v userView) string { return orDash(when(v.used)) }},
			column[userView]{"sends from", func(v userView) string { return orDash(strings.Join(append(v.Domains, v.Senders...), " ")) }},
			column[userView]{"note", func(v userView) string { return oneLine(v.Note, 40) }},
		)
	})
}

type userShowCmd struct {
	Name string `arg:"" help:"Its name, sACCOUNT_N."`
}

// Run shows a user.
func (c userShowCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		var v userView
		err := h.db.View(ctx, func(tx *db.Tx) error {
			u, err := h.accounts.UserByName(tx, c.Name)
			if err != nil {
				return err
			}
			if v, err = h.viewUser(tx, u); err != nil {
				return err
			}
			v.Passwords, err = h.accounts.Credentials(tx, u.Name)
			return err
		})
		if err != nil {
			return err
		}
		return emitOne(a, v, v.print)
	})
}
