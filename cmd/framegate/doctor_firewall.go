package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"framegate/intercept"
)

// checkFirewall asks whether captured connections get through the firewall of this
// machine: to the kernel they are its own from the capture on.
func (d *doctor) checkFirewall(ctx context.Context) []diagnosis {
	rules, err := d.config.rules()
	var families []intercept.InputReport
	if err == nil {
		families, err = intercept.Input(ctx, intercept.Exec{}, rules)
	}
	if err != nil {
		return []diagnosis{d.mistake(err)}
	}
	bad := fail
	if d.config.Intercept.Explicit != "" {
		bad = warn // there may be nothing captured at all
	}
	var list []diagnosis
	for _, f := range families {
		switch {
		case f.Dropped == "" || f.Meant:
		case f.Some != "":
			list = append(list, warn(f.Mend, "%s: %s keeps captured connections out but for those of %s", f.Family, f.Dropped, f.Some))
		default:
			list = append(list, bad(f.Mend+"  # and where your firewall keeps its rules over the next boot",
				"%s: %s keeps captured connections out", f.Family, f.Dropped))
		}
	}
	list = append(list, d.checkNftables(ctx)...)
	if list == nil {
		return []diagnosis{pass("lets captured connections in")}
	}
	return list
}

// An nftChain is a chain as nft --json lists it.
type nftChain struct {
	Family, Table, Name, Type, Hook, Policy string
}

// checkNftables looks for chains that nft, and not iptables, has made. It does not
// follow a packet through them: they can ask for more than could be known here.
func (d *doctor) checkNftables(ctx context.Context) []diagnosis {
	out, err := intercept.Exec{}.Run(ctx, "", "nft", "--json", "list", "chains")
	if err != nil {
		return nil // no nft, and so hardly a rule of it; who is not root has been told by now
	}
	var said struct {
		Nftables []struct{ Chain *nftChain }
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return []diagnosis{warn("nft list ruleset", "what nft has set is not known: %v", err)}
	}
	var list []diagnosis
	for _, item := range said.Nftables {
		c := item.Chain
		if c == nil || c.Hook != "input" || c.Type != "filter" || c.Policy != "drop" {
			continue
		}
		if c.Name == "INPUT" && c.Table == "filter" && (c.Family == "ip" || c.Family == "ip6") {
			continue // of iptables
		}
		table, err := intercept.Exec{}.Run(ctx, "", "nft", "--numeric", "list", "table", c.Family, c.Table)
		if err != nil {
			list = append(list, d.mistake(err))
		} else if !d.nftAdmits(table) {
			list = append(list, warn(fmt.Sprintf("nft insert rule %s %s %s %s accept  # and where your firewall keeps its rules over the next boot",
				c.Family, shellWord(c.Table), shellWord(c.Name), d.nftCaptured()),
				"nftables: the chain %s of %s %s drops, and no rule there seems to let captured connections in", c.Name, c.Family, c.Table))
		}
	}
	return list
}

// nftCaptured is what only captured connections have, for nft.
func (d *doctor) nftCaptured() string {
	if d.transparent() {
		return "meta l4proto tcp socket transparent 1"
	}
	return "meta l4proto tcp ct status dnat"
}

// Rules of nft, by their words, as --numeric prints them: one for what was redirected, one
// for what goes to a transparent socket, and one for all that comes by an interface.
var (
	nftRedirected  = regexp.MustCompile(`\bct status [^\n]*\b0x0*20\b[^\n]* accept`)
	nftTransparent = regexp.MustCompile(fmt.Sprintf(`\b(socket transparent|mark %#x)\b[^\n]* accept`, intercept.CaptureMark))
	nftWide        = regexp.MustCompile(`(?m)^\s*iif(?:name)? (\S+).* accept`)
)

// nftAdmits says whether a table, as nft prints it, names what is captured or lets all in.
func (d *doctor) nftAdmits(table string) bool {
	named, ports := nftTransparent, d.config.Intercept.Ports
	if !d.transparent() {
		named, ports = nftRedirected, nil
		if rules, err := d.config.rules(); err == nil {
			ports = []uint16{rules.ListenPort}
		}
	}
	if named.MatchString(table) {
		return true
	}
	for _, port := range ports {
		if regexp.MustCompile(`dport [^\n]*\b` + strconv.Itoa(int(port)) + `\b[^\n]* accept`).MatchString(table) {
			return true
		}
	}
	return slices.ContainsFunc(nftWide.FindAllStringSubmatch(table, -1), func(m []string) bool {
		return m[1] != `"lo"` && m[1] != "1" && !strings.Contains(m[0], "dport") // 1 is lo's number
	})
}

func (d *doctor) transparent() bool { return d.config.Intercept.Mode == "tproxy" }

// unheard is what a captured connection gets while no gateway runs.
func (d *doctor) unheard() string {
	if d.transparent() {
		return "gets no answer"
	}
	return "is refused"
}
