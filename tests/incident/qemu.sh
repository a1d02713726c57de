# How the machine is started. To be sourced.
# shellcheck shell=bash

# qemu ACCELERATOR IMAGE APPEND ARGUMENT... &: only in the background, for it becomes qemu. qemu ends with the shell
# that started it, also if this is killed, and what it has written to its disk is dropped. Its console is the file "console".
# The accelerator is kvm, tcg, or aarch64: tcg for that processor, and two of them, since it is the slowest.
qemu() {
    local accelerator=$1 image=$2 append=$3
    shift 3
    # -machine pc: the one with S3.
    local -a emulator=(qemu-system-x86_64 -machine pc -smp 1)
    local console=ttyS0
    case $accelerator in
        kvm) emulator+=(-accel kvm -cpu host) ;;
        tcg) emulator+=(-accel "tcg,thread=multi" -cpu max) ;;
        aarch64)
            emulator=(qemu-system-aarch64 -machine virt -smp 2 -accel "tcg,thread=multi" -cpu cortex-a72)
            console=ttyAMA0
            ;;
    esac
    exec setpriv --pdeathsig KILL -- "${emulator[@]}" -m 640 -nodefaults -no-user-config \
        -display none -serial file:console \
        -kernel "$image/vmlinuz" -initrd "$image/initrd" \
        -append "root=/dev/vda rw console=$console quiet panic=-1 $append" \
        -drive "file=$image/disk.img,format=raw,if=virtio,snapshot=on" "$@" </dev/null
}

# find_accelerator IMAGE: kvm where a kernel comes up with it, else tcg, in $accelerator. In a folder for the console; not
# in a subshell, which would keep its machine when the script is killed.
find_accelerator() {
    accelerator=tcg
    [[ -w /dev/kvm ]] || return 0
    # A kernel without an init panics and restarts, which -no-reboot makes an end.
    qemu kvm "$1" init=/bin/true -no-reboot &
    if ended_within 20 $!; then accelerator=kvm; fi
}

# ended_within SECONDS PID: else it is killed.
ended_within() {
    local -i tries
    for ((tries = 0; tries < $1 * 5; tries++)); do
        kill -0 "$2" 2>/dev/null || { wait "$2"; return; }
        sleep 0.2
    done
    kill -KILL "$2"
    wait "$2" 2>/dev/null
    return 1
}
