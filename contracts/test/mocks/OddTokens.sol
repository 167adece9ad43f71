// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {IDeployment, Settings} from "../../interfaces/IDeployment.sol";

// Tokens as others have deployed them (github.com/d-xo/weird-erc20 and worse), to put in the place of a deployment's own. Each mints
// the supply as ConunToken does, and anybody may turn its screws.

/// @notice ERC-20 and nothing else: a permit and a burn are reverts without data.
abstract contract BareToken is ERC20("Odd", "ODD") {
    constructor() {
        Settings memory settings = IDeployment(msg.sender).settings();
        _mint(settings.tokenHolder, settings.tokenSupply);
    }
}

/// @notice As ConunToken: what a mock changes is all that is odd about it.
abstract contract PlainToken is BareToken, ERC20Burnable, ERC20Permit("Odd") {}

/// @notice Moves less or more than it was told to. So do STA, PAXG, and USDT, should its owner want it.
contract FeeToken is PlainToken {
    uint256 public fee = 100;
    uint256 public bonus;

    function set(uint256 fee_, uint256 bonus_) external {
        (fee, bonus) = (fee_, bonus_);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from == address(0) || to == address(0)) return;
        super._update(to, address(0), value * fee / 10_000);
        super._update(address(0), to, value * bonus / 10_000);
    }
}

/// @notice `transferFrom` of the highest amount moves all that there is, as of cUSDCv3.
contract MostToken is PlainToken {
    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        return super.transferFrom(from, to, value == type(uint256).max ? balanceOf(from) : value);
    }
}

/// @notice Answers nothing, as USDT and BNB.
contract SilentToken is PlainToken {
    function transfer(address to, uint256 value) public override returns (bool) {
        _transfer(msg.sender, to, value);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        _spendAllowance(from, msg.sender, value);
        _transfer(from, to, value);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }
}

/// @notice Moves tokens and answers false, as Tether Gold.
contract DenyingToken is PlainToken {
    function transfer(address to, uint256 value) public override returns (bool) {
        return !super.transfer(to, value);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        return !super.transferFrom(from, to, value);
    }
}

/// @notice Answers false where others revert, as ZRX and EURS.
contract FalseToken is PlainToken {
    function transfer(address to, uint256 value) public override returns (bool) {
        return balanceOf(msg.sender) >= value && super.transfer(to, value);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        bool enough = balanceOf(from) >= value && allowance(from, msg.sender) >= value;
        return enough && super.transferFrom(from, to, value);
    }
}

/// @notice Moves nothing and answers true.
contract LyingToken is PlainToken {
    bool public lies;

    function lie() external {
        lies = true;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (!lies) super._update(from, to, value);
    }
}

/// @notice Takes tokens of the receiver while it moves some to it: no honest token does.
contract TakingToken is PlainToken {
    uint256 public taken;

    function take(uint256 amount) external {
        taken = amount;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (taken != 0) super._update(to, from, taken);
    }
}

/// @notice Refuses to move nothing, as LEND.
contract NoZeroToken is PlainToken {
    error Zero();

    function _update(address from, address to, uint256 value) internal override {
        if (value == 0) revert Zero();
        super._update(from, to, value);
    }
}

/// @notice Refuses what its owner has blocked, as USDC and USDT.
contract BlockingToken is PlainToken {
    mapping(address account => bool) public isBlocked;

    error Blocked(address account);

    function setBlocked(address account, bool blocked) external {
        isBlocked[account] = blocked;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (isBlocked[from]) revert Blocked(from);
        if (isBlocked[to]) revert Blocked(to);
        super._update(from, to, value);
    }
}

/// @notice Stops altogether while its owner wants it, as BNB.
contract PausingToken is PlainToken {
    bool public isPaused;

    error Paused();

    function setPaused(bool paused) external {
        isPaused = paused;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (isPaused) revert Paused();
        super._update(from, to, value);
    }
}

/// @notice Balances change without a transfer, as Ampleforth's.
contract RebasingToken is PlainToken {
    function shrink(address account, uint256 amount) external {
        _burn(account, amount);
    }

    function grow(address account, uint256 amount) external {
        _mint(account, amount);
    }
}

interface IHooked {
    function tokensMoving(bool before) external;
}

/// @notice Tells one account before and after its tokens move, whichever side it is on: ERC-777, and any token that its owner can
/// replace.
contract HookToken is PlainToken {
    address public hooked;

    function hook(address account) external {
        hooked = account;
    }

    function _update(address from, address to, uint256 value) internal override {
        bool tell = hooked != address(0) && (from == hooked || to == hooked);
        if (tell) IHooked(hooked).tokensMoving(true);
        super._update(from, to, value);
        if (tell) IHooked(hooked).tokensMoving(false);
    }
}

/// @notice Answers one of its functions with a megabyte, in success or in failure.
contract BombToken is PlainToken {
    bytes4 public selector;
    bool public fails;

    function arm(bytes4 selector_, bool fails_) external {
        (selector, fails) = (selector_, fails_);
    }

    function balanceOf(address account) public view override returns (uint256 balance) {
        balance = super.balanceOf(account);
        _explode(this.balanceOf.selector, balance);
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        super.transfer(to, value);
        _explode(this.transfer.selector, 1);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        super.transferFrom(from, to, value);
        _explode(this.transferFrom.selector, 1);
        return true;
    }

    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        public
        override
    {
        super.permit(owner, spender, value, deadline, v, r, s);
        _explode(this.permit.selector, 1);
    }

    function _explode(bytes4 called, uint256 answer) private view {
        if (called != selector) return;
        bool failing = fails;
        assembly ("memory-safe") {
            mstore(0, answer)
            if failing { revert(0, 0x100000) }
            return(0, 0x100000)
        }
    }
}

/// @notice A permit burns all the gas that it is given.
contract GreedyToken is PlainToken {
    function permit(address, address, uint256, uint256, uint8, bytes32, bytes32) public pure override {
        assembly ("memory-safe") {
            invalid()
        }
    }
}

/// @notice Knows no permit but swallows what it does not know, as WETH: a permit seems to succeed. So does a burn.
contract SwallowingToken is BareToken {
    fallback() external {}
}

/// @notice Knows neither, and says so: DAI's permit has another signature.
contract PermitlessToken is BareToken {}

/// @notice 36 decimals, and balances far above 2^96.
contract HugeToken is PlainToken {
    constructor() {
        _mint(IDeployment(msg.sender).settings().tokenHolder, 1 << 200);
    }

    function decimals() public pure override returns (uint8) {
        return 36;
    }
}

/// @notice Refuses amounts of 2^96 and more, as UNI and COMP; a higher allowance is what their highest is.
contract NarrowToken is PlainToken {
    error TooMuch();

    function _update(address from, address to, uint256 value) internal override {
        if (value > type(uint96).max) revert TooMuch();
        super._update(from, to, value);
    }
}
