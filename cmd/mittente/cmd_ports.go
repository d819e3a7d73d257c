package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mittente/internal/db"
	"mittente/internal/node"
	"mittente/internal/smtpserver"
)

type portsCmd struct{}

// portRange is ports of one address that share a fate.
type portRange struct {
	Address string `json:"address"`
	Ports   string `json:"ports"` // "25", "1025-5000", or several of these
	Count   int    `json:"count"`
	State   string `json:"state"`            // "bound" or "skipped"
	Reason  string `json:"reason,omitempty"` // of skipped ones
}

// nodeReport is what a running server writes of itself for other processes to read.
type nodeReport struct {
	Version   string      `json:"version"`
	PID       int         `json:"pid"`
	StartedAt time.Time   `json:"started_at"`
	Hostname  string      `json:"hostname"`
	HTTP      string      `json:"http,omitempty"` // the address bound
	Ports     []portRange `json:"ports"`
}

// Run shows what the running server has bound and skipped.
func (portsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, reads, func(h *house) error {
		report, err := h.report(ctx)
		if err != nil {
			return err
		}
		return emit(a, report.Ports,
			column[portRange]{"address", func(r portRange) string { return r.Address }},
			column[portRange]{"ports", func(r portRange) string { return r.Ports }},
			column[portRange]{"count", func(r portRange) string { return strconv.Itoa(r.Count) }},
			column[portRange]{"state", func(r portRange) string { return r.State }},
			column[portRange]{"reason", func(r portRange) string { return r.Reason }},
		)
	})
}

// report returns what the running server has written of itself.
func (h *house) report(ctx context.Context) (nodeReport, error) {
	var newest node.Report
	err := h.db.View(ctx, func(tx *db.Tx) error {
		reports, err := h.queue.Reports(tx)
		for _, r := range reports {
			if r.ReportedAt.After(newest.ReportedAt) {
				newest = r
			}
		}
		return err
	})
	if err != nil {
		return nodeReport{}, err
	}
	if newest.Doc == nil || !newest.Alive(time.Now()) || !served(h.cfg.DataDir) {
		return nodeReport{}, fmt.Errorf("%w: no relay runs over %s (start it: mittente serve)", errUnavailable, h.cfg.DataDir)
	}
	var report nodeReport
	if err := json.Unmarshal(newest.Doc, &report); err != nil {
		return nodeReport{}, fmt.Errorf("report of node %s: %w", newest.Node, err)
	}
	return report, nil
}

// portReport sums up what was bound and skipped: 3,977 ports are some lines, not 3,977.
func portReport(bound []netip.AddrPort, skipped []smtpserver.Skipped) []portRange {
	byAddress := map[netip.Addr][]uint16{}
	for _, at := range bound {
		byAddress[at.Addr()] = append(byAddress[at.Addr()], at.Port())
	}
	report := []portRange{}
	for _, addr := range slices.SortedFunc(maps.Keys(byAddress), netip.Addr.Compare) {
		ports := byAddress[addr]
		slices.Sort(ports)
		report = append(report, portRange{Address: addr.String(), Ports: spans(ports), Count: len(ports), State: "bound"})
	}
	for _, s := range skipped {
		ports, err := smtpserver.ParsePorts(strings.Split(s.Ports, ","))
		if err != nil {
			ports = nil // a text of room msa; shown as it is
		}
		report = append(report, portRange{Address: s.Addr.String(), Ports: s.Ports, Count: len(ports), State: "skipped", Reason: s.Reason})
	}
	return report
}

// spans writes ascending ports as "25, 1025-5000".
func spans(ports []uint16) string {
	var parts []string
	for i := 0; i < len(ports); {
		j := i
		for j+1 < len(ports) && ports[j+1] == ports[j]+1 {
			j++
		}
		part := strconv.Itoa(int(ports[i]))
		if j > i {
			part += "-" + strconv.Itoa(int(ports[j]))
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

// bound is how many ports are listened on.
func (r nodeReport) bound() int {
	n := 0
	for _, p := range r.Ports {
		if p.State == "bound" {
			n += p.Count
		}
	}
	return n
}
