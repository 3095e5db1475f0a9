-- What wrk found, as one line of JSON after its own report. Times in microseconds.
-- No function is called for each request: in Lua that would cost the load more than the request.
function done(summary, latency, requests)
   local errors = summary.errors
   local line = '{"requests": %d, "bytes": %d, "duration_us": %d, '
      .. '"p50_us": %d, "p99_us": %d, "p99_9_us": %d, "errors": '
      .. '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n'
   io.write(line:format(summary.requests, summary.bytes, summary.duration,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
