package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// ErrAddress says that an address is not of the form HOST:PORT.
var ErrAddress = errors.New("address is not HOST:PORT, like localhost:5000")

// loopback is what localhost stands for, whatever the machine's resolver says: a container from scratch has none.
var loopback = []string{"127.0.0.1", "::1"}

// Listen opens every address, HOST:PORT with port 0 for any free one. localhost means both loopback addresses, the
// second where the machine has it. A malformed address is ErrAddress; a taken one is told with what to try.
func Listen(ctx context.Context, addrs []string) ([]net.Listener, error) {
	var listeners []net.Listener
	fail := func(err error) ([]net.Listener, error) {
		for _, l := range listeners {
			l.Close()
		}
		return nil, err
	}
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return fail(fmt.Errorf("%w: %q", ErrAddress, addr))
		}
		hosts := []string{host}
		if host == "localhost" {
			hosts = loopback
		}
		for i, h := range hosts {
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(h, port))
			switch {
			case err == nil:
				listeners = append(listeners, l)
				port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
			case errors.Is(err, syscall.EADDRINUSE):
				return fail(fmt.Errorf("address %s is taken by another program; stop it, or try --addr %s", addr, net.JoinHostPort(host, nextPort(port))))
			case i > 0 && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)):
				// No IPv6 on this machine.
			default:
				if _, isAddr := errors.AsType[*net.AddrError](err); isAddr {
					return fail(fmt.Errorf("%w: %w", ErrAddress, err))
				}
				return fail(err)
			}
		}
	}
	return listeners, nil
}

func nextPort(port string) string {
	if n, err := strconv.Atoi(port); err == nil && n > 0 && n < 65535 {
		return strconv.Itoa(n + 1)
	}
	return "0"
}

// AskHealth asks the server at HOST:PORT whether it is alive, for three seconds at most.
func AskHealth(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrAddress, addr)
	}
	hosts := []string{host}
	if ip := net.ParseIP(host); host == "" || host == "localhost" || ip != nil && ip.IsUnspecified() {
		hosts = loopback
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var errs []error
	for _, h := range hosts {
		err := askHealth(ctx, net.JoinHostPort(h, port))
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func askHealth(ctx context.Context, addr string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/-/healthz", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", addr, response.Status)
	}
	return nil
}
