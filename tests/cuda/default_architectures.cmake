# What tq_cuda_default_architectures makes of an nvidia-smi's answer: cmake -DSOURCE=... -DWORK=... -P this.
cmake_minimum_required(VERSION 3.25)
include(${SOURCE}/cmake/cuda_targets.cmake)
file(MAKE_DIRECTORY ${WORK})
set(ENV{PATH} "${WORK}:$ENV{PATH}")

function(check answer code wanted)
  file(WRITE ${WORK}/nvidia-smi "#!/bin/sh\nprintf '${answer}'\nexit ${code}\n")
  file(CHMOD ${WORK}/nvidia-smi PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  tq_cuda_default_architectures(got)
  if(NOT got STREQUAL wanted)
    message(SEND_ERROR "nvidia-smi says '${answer}' (${code}): '${got}' where '${wanted}' was wanted")
  endif()
endfunction()

check("8.9\\n" 0 "89")
check("9.0\\n9.0\\n8.0\\n" 0 "90a;80")
check("12.0\\n" 0 "120")
check("7.5\\n" 0 "90a")         # not supported
check("7.5\\n8.6\\n" 0 "86")
check("" 0 "90a")
check("9.0\\n" 9 "90a")         # a driver that does not answer
check("no devices, 8.9" 6 "90a")
