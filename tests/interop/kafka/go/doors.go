package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A listener, who comes there, and whether it has any rights: what follows `--door`, by its keys.
type door map[string]string

func parseDoor(text string) door {
	parsed := door{}
	for _, one := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(one, "=")
		parsed[key] = value
	}
	return parsed
}

// Nothing where the listener has no TLS.
func (d door) tls() (*tls.Config, error) {
	if d["ca"] == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(d["ca"])
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(pem)
	if d["certificate"] != "" {
		pair, err := tls.LoadX509KeyPair(d["certificate"], d["key"])
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (s scenarios) throughDoors(prefix string) error {
	for _, at := range s.doors {
		with, err := s.makes(at)
		if err != nil {
			return fmt.Errorf("%s: %w", at["protocol"], err)
		}
		one := scenarios{library: with, name: s.name}
		name := prefix + "-" + at["protocol"]
		if at["rights"] == "all" {
			err = one.comesIn(name)
		} else {
			err = one.isRefused(name)
		}
		if err != nil {
			return fmt.Errorf("%s with rights to %s: %w", at["protocol"], at["rights"], err)
		}
	}
	return nil
}

func (s scenarios) comesIn(name string) error {
	const count = 10
	if err := first(s.makeTopic(name, 1, nil), s.produce(name, "none", spread("", count, 1))); err != nil {
		return err
	}
	one, err := s.join(name, name)
	if err != nil {
		return err
	}
	all := taken{map[string]bool{}}
	if err := first(all.until(count, one), one.close()); err != nil {
		return err
	}
	committed, err := s.committed(name, name)
	return first(err, expect("what is committed", committed[0], int64(count)))
}

// The topic and the group are there; who has no rights is told so.
func (s scenarios) isRefused(name string) error {
	_, read := s.committed(name, name)
	refused := []struct {
		what  string
		err   error
		codes []string
	}{
		// An idempotent producer may be told when it asks for its id.
		{"producing", s.produce(name, "none", spread("", 1, 1)), []string{"TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"}},
		{"asking for what a group has committed", read, []string{"GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"}},
		{"deleting the group", s.deleteGroup(name), []string{"GROUP_AUTHORIZATION_FAILED"}},
		{"making a topic", s.makeTopic(name+"-another", 1, nil), []string{"TOPIC_AUTHORIZATION_FAILED"}},
	}
	for _, one := range refused {
		if code := s.refusal(one.err); !slices.Contains(one.codes, code) {
			return fmt.Errorf("%s is answered with %v", one.what, one.err)
		}
	}
	return nil
}
